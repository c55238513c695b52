/** One run: where it stands, what it cost, what it did, what came of it. */
import { Alert, Box, Button, Group, Skeleton, Stack, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { keys } from "@/api/keys";
import type { Role, Run } from "@/api/types";
import { mayEdit } from "@/app/permissions";
import { Failure } from "@/app/ui/ErrorBoundary";
import { IconAlertCircle, IconPlayerStop, IconRefresh } from "@/app/ui/icons";
import { Markdown } from "@/app/ui/Markdown";
import { notifyError } from "@/app/ui/notify";

import { isOver, retryRun, runEventsQuery, runQuery, stopRun } from "../api/runs";
import { ResultPanel } from "./ResultPanel";
import { RunFigures } from "./RunFigures";
import { RunStepper } from "./RunStepper";
import { Timeline } from "./Timeline";

interface Props {
  runId: string;
  role: Role;
  onRetried: (run: Run) => void;
}

export default function RunView({ runId, role, onRetried }: Props) {
  const run = useQuery(runQuery(runId));
  const log = useQuery(runEventsQuery(runId));
  if (run.error) return <Failure title="This run cannot be shown" error={run.error} />;
  if (!run.data) return <Skeleton height={220} />;
  const over = isOver(run.data.status);
  return (
    <Stack gap="md">
      <Group justify="space-between" gap="sm">
        <Box flex={1} miw={240}>
          <RunStepper status={run.data.status} />
        </Box>
        {!over && mayEdit(role) && <StopButton run={run.data} />}
      </Group>
      <RunFigures run={run.data} />
      {(run.data.status === "failed" || run.data.status === "cancelled") && (
        <NotDone run={run.data} role={role} onRetried={onRetried} />
      )}
      {run.data.status === "succeeded" && (
        <Stack gap="sm">
          {run.data.summary && <Markdown text={run.data.summary} />}
          {run.data.result && <ResultPanel result={run.data.result} />}
        </Stack>
      )}
      <Text component="h3" size="sm" fw={600} mt="xs">
        What the agent did
      </Text>
      {log.error && <Failure title="The steps cannot be shown" error={log.error} onRetry={() => void log.refetch()} />}
      {log.data && <Timeline events={log.data.events} running={!over} />}
    </Stack>
  );
}

function StopButton({ run }: { run: Run }) {
  const cache = useQueryClient();
  const stop = useMutation({
    mutationFn: () => stopRun(run.id),
    onSuccess: (stopped) => {
      cache.setQueryData(runQuery(run.id).queryKey, (known) =>
        known ? { ...stopped, sequence: known.sequence } : stopped,
      );
    },
    onError: (error) => notifyError("The run was not stopped", error),
  });
  return (
    <Button
      size="xs"
      variant="light"
      color="red"
      leftSection={<IconPlayerStop size={16} />}
      loading={stop.isPending}
      onClick={() => stop.mutate()}
    >
      Stop
    </Button>
  );
}

function NotDone({ run, role, onRetried }: { run: Run; role: Role; onRetried: (run: Run) => void }) {
  const cache = useQueryClient();
  const retry = useMutation({
    mutationFn: () => retryRun(run.id),
    onSuccess: (next) => {
      void cache.invalidateQueries({ queryKey: keys.cardRuns(run.card_id) });
      onRetried(next);
    },
    onError: (error) => notifyError("The run was not retried", error),
  });
  const failed = run.status === "failed";
  return (
    <Alert
      color={failed ? "red" : "gray"}
      icon={<IconAlertCircle />}
      title={failed ? "The agent did not finish" : "The agent was stopped"}
    >
      <Stack gap="sm" align="flex-start">
        {run.reason && <Text size="sm">{run.reason}</Text>}
        {mayEdit(role) && (
          <Button
            size="xs"
            color={failed ? "red" : "brand"}
            leftSection={<IconRefresh size={16} />}
            loading={retry.isPending}
            onClick={() => retry.mutate()}
          >
            Retry
          </Button>
        )}
      </Stack>
    </Alert>
  );
}
