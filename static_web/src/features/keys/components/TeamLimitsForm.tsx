import { Alert, Button, Paper, Skeleton, Stack, Text, Title } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import { errorText } from "@/api/problem";
import type { TeamLimits } from "@/api/types";
import { Failure } from "@/app/ui/ErrorBoundary";
import { notifyDone } from "@/app/ui/notify";

import { limitsQuery, setLimits } from "../api/keys";
import { BudgetFields, RateFields } from "./LimitFields";

const BUDGETS: { name: "budget" | "run_budget" | "card_budget" | "sandbox_budget"; label: string }[] = [
  { name: "budget", label: "The whole team" },
  { name: "card_budget", label: "Each card" },
  { name: "run_budget", label: "Each run" },
  { name: "sandbox_budget", label: "Each sandbox" },
];

export function TeamLimitsForm({ teamId }: { teamId: string }) {
  const limits = useQuery(limitsQuery(teamId));
  if (limits.isPending) return <Skeleton height={240} />;
  if (limits.error) return <Failure title="The limits cannot be shown" error={limits.error} />;
  return <Form key={JSON.stringify(limits.data)} teamId={teamId} kept={limits.data} />;
}

function Form({ teamId, kept }: { teamId: string; kept: TeamLimits }) {
  const cache = useQueryClient();
  const [limits, setDraft] = useState(kept);
  const save = useMutation({
    mutationFn: () => setLimits(teamId, limits),
    onSuccess: async () => {
      notifyDone("The limits hold everywhere within five seconds.");
      await cache.invalidateQueries({ queryKey: keys.limits(teamId) });
    },
  });
  return (
    <Paper withBorder p="lg">
      <Stack>
        <Title order={2} size="h4">
          Limits of the team
        </Title>
        {BUDGETS.map(({ name, label }) => (
          <Stack key={name} gap={4}>
            <Text fw={600} size="sm">
              {label} may spend
            </Text>
            <BudgetFields of={label} value={limits[name]} onChange={(value) => setDraft({ ...limits, [name]: value })} />
          </Stack>
        ))}
        <Text fw={600} size="sm">
          All calls of the team together
        </Text>
        <RateFields value={limits.rates} onChange={(rates) => setDraft({ ...limits, rates })} />
        {save.error && <Alert color="red">{errorText(save.error)}</Alert>}
        <Button
          loading={save.isPending}
          disabled={JSON.stringify(limits) === JSON.stringify(kept)}
          onClick={() => save.mutate()}
          style={{ alignSelf: "flex-start" }}
        >
          Save limits
        </Button>
      </Stack>
    </Paper>
  );
}
