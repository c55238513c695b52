import { Alert, Button, Code, Group, Modal, Select, Stack, TextInput, type MantineSize } from "@mantine/core";
import { useState, type ReactNode } from "react";

import { errorText } from "@/api/problem";

import { CopyButton } from "./CopyButton";

const LIFETIMES = [
  { value: "30", label: "30 days" },
  { value: "90", label: "90 days" },
  { value: "365", label: "One year" },
  { value: "never", label: "Never expires" },
];

interface ShownOnceProps {
  /** What it is called, such as "key". */
  what: string;
  value: string;
  onClose: () => void;
}

/** A secret in the only moment that it can be seen. */
export function ShownOnce({ what, value, onClose }: ShownOnceProps) {
  return (
    <Stack>
      <Alert color="yellow">Copy the {what} now: it is not shown again.</Alert>
      <Group wrap="nowrap">
        <Code block flex={1} style={{ overflowWrap: "anywhere", whiteSpace: "normal" }} data-testid="shown-once">
          {value}
        </Code>
        <CopyButton value={value} label={`Copy ${what}`} />
      </Group>
      <Button onClick={onClose}>Done</Button>
    </Stack>
  );
}

interface NewSecretProps {
  what: string;
  title: string;
  size?: MantineSize;
  /** The secret, once it was made. */
  made: string | undefined;
  busy: boolean;
  error: Error | null;
  onCreate: (named: { name: string; expires_in_days: number | null }) => void;
  onClose: () => void;
  /** More fields. */
  children?: ReactNode;
}

/** Asks what a secret is for and how long it shall live, then shows it once. */
export function NewSecretModal({ what, title, size = "md", made, busy, error, onCreate, onClose, children }: NewSecretProps) {
  const [name, setName] = useState("");
  const [lifetime, setLifetime] = useState("90");
  return (
    <Modal opened onClose={onClose} title={title} size={size} centered>
      {made ? (
        <ShownOnce what={what} value={made} onClose={onClose} />
      ) : (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            onCreate({ name: name.trim(), expires_in_days: lifetime === "never" ? null : Number(lifetime) });
          }}
        >
          <Stack>
            <TextInput
              label="Name"
              description="What it is for, so that you know it again."
              value={name}
              onChange={(event) => setName(event.currentTarget.value)}
              maxLength={100}
              required
              data-autofocus
            />
            <Select
              label="Expires after"
              data={LIFETIMES}
              value={lifetime}
              allowDeselect={false}
              onChange={(value) => setLifetime(value ?? "90")}
            />
            {children}
            {error && <Alert color="red">{errorText(error)}</Alert>}
            <Button type="submit" loading={busy} disabled={name.trim() === ""}>
              Create {what}
            </Button>
          </Stack>
        </form>
      )}
    </Modal>
  );
}
