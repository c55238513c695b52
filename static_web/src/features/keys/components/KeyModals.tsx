import { Alert, Button, Code, Group, Modal, Select, Stack, TagsInput, Text, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import { errorText } from "@/api/problem";
import type { ModelKey } from "@/api/types";
import { CopyButton } from "@/app/ui/CopyButton";
import { notifyDone } from "@/app/ui/notify";

import { changeModelKey, createModelKey, rotateModelKey } from "../api/keys";
import { BudgetFields, NO_BUDGET, NO_RATES, RateFields } from "./LimitFields";

const LIFETIMES = [
  { value: "30", label: "30 days" },
  { value: "90", label: "90 days" },
  { value: "365", label: "One year" },
  { value: "never", label: "Never expires" },
];

function ShownOnce({ value, onClose }: { value: string; onClose: () => void }) {
  return (
    <Stack>
      <Alert color="yellow">Copy the key now: it is not shown again.</Alert>
      <Group wrap="nowrap">
        <Code block flex={1} style={{ overflowWrap: "anywhere", whiteSpace: "normal" }} data-testid="model-key">
          {value}
        </Code>
        <CopyButton value={value} label="Copy key" />
      </Group>
      <Button onClick={onClose}>Done</Button>
    </Stack>
  );
}

interface Props {
  teamId: string;
  onClose: () => void;
}

export function NewKeyModal({ teamId, onClose }: Props) {
  const cache = useQueryClient();
  const [name, setName] = useState("");
  const [lifetime, setLifetime] = useState("90");
  const [models, setModels] = useState<string[]>([]);
  const [rates, setRates] = useState(NO_RATES);
  const [budget, setBudget] = useState(NO_BUDGET);
  const create = useMutation({
    mutationFn: () =>
      createModelKey(teamId, {
        name: name.trim(),
        models: models.length > 0 ? models : null,
        expires_in_days: lifetime === "never" ? null : Number(lifetime),
        rates,
        budget,
      }),
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.modelKeys(teamId) }),
  });
  return (
    <Modal opened onClose={onClose} title="New model key" size="lg" centered>
      {create.data ? (
        <ShownOnce value={create.data.key} onClose={onClose} />
      ) : (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            create.mutate();
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
            <Select label="Expires after" data={LIFETIMES} value={lifetime} allowDeselect={false} onChange={(value) => setLifetime(value ?? "90")} />
            <TagsInput label="Models" description="The only ones it may ask; none for any." value={models} onChange={setModels} />
            <Text fw={600} size="sm">
              Budget
            </Text>
            <BudgetFields of="Key" value={budget} onChange={setBudget} />
            <Text fw={600} size="sm">
              Limits
            </Text>
            <RateFields value={rates} onChange={setRates} />
            {create.error && <Alert color="red">{errorText(create.error)}</Alert>}
            <Button type="submit" loading={create.isPending} disabled={name.trim() === ""}>
              Create key
            </Button>
          </Stack>
        </form>
      )}
    </Modal>
  );
}

interface KeyProps extends Props {
  modelKey: ModelKey;
}

export function KeyLimitsModal({ teamId, modelKey, onClose }: KeyProps) {
  const cache = useQueryClient();
  const [rates, setRates] = useState(modelKey.rates);
  const [budget, setBudget] = useState(modelKey.budget);
  const change = useMutation({
    mutationFn: () => changeModelKey(teamId, modelKey.id, { rates, budget }),
    onSuccess: async () => {
      onClose();
      notifyDone("The limits hold everywhere within five seconds.");
      await cache.invalidateQueries({ queryKey: keys.modelKeys(teamId) });
    },
  });
  return (
    <Modal opened onClose={onClose} title={`Limits of ${modelKey.name}`} size="lg" centered>
      <Stack>
        <BudgetFields of="Key" value={budget} onChange={setBudget} />
        <RateFields value={rates} onChange={setRates} />
        {change.error && <Alert color="red">{errorText(change.error)}</Alert>}
        <Button loading={change.isPending} onClick={() => change.mutate()}>
          Save limits
        </Button>
      </Stack>
    </Modal>
  );
}

export function RotateModal({ teamId, modelKey, onClose }: KeyProps) {
  const cache = useQueryClient();
  const rotate = useMutation({
    mutationFn: () => rotateModelKey(teamId, modelKey.id),
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.modelKeys(teamId) }),
  });
  return (
    <Modal opened onClose={onClose} title={`Rotate ${modelKey.name}?`} centered>
      {rotate.data ? (
        <ShownOnce value={rotate.data.key} onClose={onClose} />
      ) : (
        <Stack>
          <Text size="sm">
            A new key takes its place, with the same settings and budgets. The old one is good for another 24 hours.
          </Text>
          {rotate.error && <Alert color="red">{errorText(rotate.error)}</Alert>}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button loading={rotate.isPending} onClick={() => rotate.mutate()}>
              Rotate
            </Button>
          </Group>
        </Stack>
      )}
    </Modal>
  );
}
