import { Alert, Button, Group, Modal, Select, Stack, TagsInput, Text } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import { errorText } from "@/api/problem";
import type { ModelKey } from "@/api/types";
import { NewSecretModal, ShownOnce } from "@/app/ui/NewSecretModal";
import { notifyDone } from "@/app/ui/notify";

import { changeModelKey, createModelKey, rotateModelKey } from "../api/keys";
import { useScopes, type Scope } from "../api/scopes";
import { BudgetFields, NO_BUDGET, NO_RATES, RateFields } from "./LimitFields";

interface Props {
  teamId: string;
  onClose: () => void;
}

export function NewKeyModal({ teamId, onClose }: Props) {
  const cache = useQueryClient();
  const scopes = useScopes(teamId);
  const [scope, setScope] = useState<Scope>({ kind: "team", id: teamId }); // whole: its member may leave the list
  const [models, setModels] = useState<string[]>([]);
  const [rates, setRates] = useState(NO_RATES);
  const [budget, setBudget] = useState(NO_BUDGET);
  const create = useMutation({
    mutationFn: (named: { name: string; expires_in_days: number | null }) =>
      createModelKey(teamId, {
        ...named,
        scope,
        models: models.length > 0 ? models : null,
        rates,
        budget,
      }),
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.modelKeys(teamId) }),
  });
  return (
    <NewSecretModal
      what="key"
      title="New model key"
      size="lg"
      made={create.data?.key}
      busy={create.isPending}
      error={create.error}
      onCreate={create.mutate}
      onClose={onClose}
    >
      <Select
        label="Who it is for"
        description="A person's key is refused when they have left the team."
        data={scopes.map((one) => ({ value: one.scope.id, label: one.name }))}
        value={scope.id}
        allowDeselect={false}
        onChange={(value) => setScope((before) => scopes.find((one) => one.scope.id === value)?.scope ?? before)}
      />
      <TagsInput label="Models" description="The only ones it may ask; none for any." value={models} onChange={setModels} />
      <Text fw={600} size="sm">
        Budget
      </Text>
      <BudgetFields of="Key" value={budget} onChange={setBudget} />
      <Text fw={600} size="sm">
        Limits
      </Text>
      <RateFields value={rates} onChange={setRates} />
    </NewSecretModal>
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
        <ShownOnce what="key" value={rotate.data.key} onClose={onClose} />
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
