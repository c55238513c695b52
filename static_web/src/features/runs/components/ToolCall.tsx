import { Badge, Button, Collapse, Group, Loader, Text, UnstyledButton } from "@mantine/core";
import { useId, useState } from "react";

import type { Progress } from "@/api/events";
import { duration } from "@/app/ui/format";
import { IconChevronRight, IconFilePlus, IconFileSearch, IconFileText, IconGitCommit, IconMessageCircle, IconPencil, IconTerminal2 } from "@/app/ui/icons";

import classes from "./ToolCall.module.css";

const ICONS: Record<string, typeof IconTerminal2> = {
  bash: IconTerminal2,
  view: IconFileText,
  create: IconFilePlus,
  replace: IconPencil,
  insert: IconPencil,
  search: IconFileSearch,
  commit: IconGitCommit,
  comment: IconMessageCircle,
};

interface Props {
  use: Extract<Progress, { kind: "tool_use" }>;
  result: Extract<Progress, { kind: "tool_result" }> | null;
  running: boolean;
}

export function ToolCall({ use, result, running }: Props) {
  const [opened, setOpened] = useState(false);
  const id = useId();
  const Icon = ICONS[use.name] ?? IconTerminal2;
  return (
    <div className={classes.call} data-error={result?.is_error ?? undefined}>
      <UnstyledButton
        className={classes.head ?? ""}
        onClick={() => setOpened(!opened)}
        aria-expanded={opened}
        aria-controls={id}
      >
        <IconChevronRight size={14} className={opened ? classes.turned : undefined} />
        <Icon size={15} />
        <Text size="sm" fw={550} component="span">
          {use.name}
        </Text>
        <Text size="xs" c="dimmed" component="span" truncate className={classes.gist ?? ""}>
          {gist(use.input)}
        </Text>
        <Group gap={6} wrap="nowrap" ml="auto">
          {result === null && running && <Loader size={12} />}
          {result?.is_error && (
            <Badge size="xs" color="red" variant="light">
              error
            </Badge>
          )}
          {result?.duration_ms != null && (
            <Text size="xs" c="dimmed" component="span" style={{ whiteSpace: "nowrap" }}>
              {duration(result.duration_ms)}
            </Text>
          )}
        </Group>
      </UnstyledButton>
      <Collapse expanded={opened} id={id}>
        <div className={classes.details}>
          {Object.entries(use.input).map(([name, value]) => (
            <Field key={name} name={name} text={typeof value === "string" ? value : JSON.stringify(value, null, 2)} />
          ))}
          {result && (
            <Field
              name={result.is_error ? "error" : "output"}
              text={result.output ?? ""}
              error={result.is_error}
            />
          )}
        </div>
      </Collapse>
    </div>
  );
}

const SHOWN_CHARACTERS = 2_000;

function Field({ name, text, error = false }: { name: string; text: string; error?: boolean }) {
  const [whole, setWhole] = useState(false);
  const cut = !whole && text.length > SHOWN_CHARACTERS;
  return (
    <div>
      <Text size="xs" c="dimmed">
        {name}
      </Text>
      <pre className={classes.text} data-error={error || undefined} tabIndex={0}>
        {cut ? text.slice(0, SHOWN_CHARACTERS) : text !== "" ? text : "(empty)"}
      </pre>
      {cut && (
        <Button size="compact-xs" variant="subtle" onClick={() => setWhole(true)}>
          Show all {text.length.toLocaleString("en")} characters
        </Button>
      )}
    </div>
  );
}

/** What tells one call from another at a glance. */
function gist(input: Record<string, unknown>): string {
  const { command, path, pattern, message, body, summary } = input;
  const value = command ?? path ?? pattern ?? message ?? summary ?? body;
  return typeof value === "string" ? (value.split("\n")[0] ?? "") : "";
}
