import { Alert, Box, Button, Group, Loader, Paper, Progress, Stack, Text, ThemeIcon } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";

import type { Task, TaskStep } from "@/api/types";
import { elapsed } from "@/app/ui/format";
import { IconAlertCircle, IconCheck, IconCircleDashed, IconRefresh, IconX } from "@/app/ui/icons";
import { notifyError } from "@/app/ui/notify";
import { useNow } from "@/app/ui/useNow";

import { hasFailed, retryTask, taskQuery } from "../api/workspaces";
import { overallProgress } from "./progress";

export function TaskProgress({ task, onRetried }: { task: Task; onRetried: () => void }) {
  const now = useNow(task.status === "pending" || task.status === "running");
  const failed = hasFailed(task.status);
  const overall = Math.round(overallProgress(task) * 100);
  const color = failed ? "red" : task.status === "succeeded" ? "teal" : "brand";
  return (
    <Paper withBorder p="lg" radius="lg" bg="var(--kb-surface)">
      <Stack gap="lg">
        <Stack gap={6}>
          <Group justify="space-between">
            <Text fw={600}>{task.title}</Text>
            <Text size="sm" c="dimmed" aria-live="polite">
              {overall} %
            </Text>
          </Group>
          <Progress
            value={overall}
            color={color}
            animated={!failed && task.status !== "succeeded"}
            aria-label="Overall progress"
          />
        </Stack>
        <Stack gap="md" component="ol" p={0} m={0} style={{ listStyle: "none" }} aria-label="Steps">
          {task.steps.map((step) => (
            <Step key={step.name} step={step} now={now} />
          ))}
        </Stack>
        {failed && <Failed task={task} onRetried={onRetried} />}
      </Stack>
    </Paper>
  );
}

function Step({ step, now }: { step: TaskStep; now: number }) {
  return (
    <Group component="li" align="flex-start" wrap="nowrap" gap="sm" aria-label={`${step.title}: ${step.status}`}>
      <StepIcon status={step.status} />
      <Box flex={1} miw={0} pt={2}>
        <Group justify="space-between" wrap="nowrap" gap="xs">
          <Text size="sm" fw={step.status === "running" ? 600 : 450} {...(step.status === "pending" && { c: "dimmed" })}>
            {step.title}
          </Text>
          <Text size="xs" c="dimmed" style={{ whiteSpace: "nowrap", fontVariantNumeric: "tabular-nums" }}>
            {step.started_at !== null && elapsed(step.started_at, step.finished_at, now)}
          </Text>
        </Group>
        {step.note && step.status === "running" && (
          <Text size="xs" c="dimmed" mt={2}>
            {step.note}
          </Text>
        )}
        {step.status === "running" && step.attempts > 1 && (
          <Text size="xs" c="dimmed" mt={2}>
            Attempt {step.attempts}
          </Text>
        )}
        {step.error && (
          <Text size="xs" c="red" mt={2}>
            {step.error}
          </Text>
        )}
        {step.status === "running" && (
          <Progress
            mt={6}
            size="sm"
            value={step.progress === null ? 100 : step.progress * 100}
            striped={step.progress === null}
            animated={step.progress === null}
            aria-label={`Progress of ${step.title}`}
          />
        )}
      </Box>
    </Group>
  );
}

function StepIcon({ status }: { status: TaskStep["status"] }) {
  if (status === "running") {
    return (
      <ThemeIcon variant="light" radius="xl" size={26}>
        <Loader size={14} />
      </ThemeIcon>
    );
  }
  const [color, Icon] = (
    {
      pending: ["gray", IconCircleDashed],
      succeeded: ["teal", IconCheck],
      failed: ["red", IconX],
    } as const
  )[status];
  return (
    <ThemeIcon variant="light" radius="xl" size={26} color={color}>
      <Icon size={15} />
    </ThemeIcon>
  );
}

function Failed({ task, onRetried }: { task: Task; onRetried: () => void }) {
  const cache = useQueryClient();
  const retry = useMutation({
    mutationFn: () => retryTask(task.id),
    onSuccess: (retried) => {
      cache.setQueryData(taskQuery(task.id).queryKey, retried);
      onRetried();
    },
    onError: (error) => notifyError("The retry did not start", error),
  });
  return (
    <Alert color="red" icon={<IconAlertCircle />} title="This did not work">
      <Stack gap="sm" align="flex-start">
        <Text size="sm">{task.error ?? "A step failed; see above."}</Text>
        <Button
          size="xs"
          color="red"
          leftSection={<IconRefresh size={16} />}
          loading={retry.isPending}
          onClick={() => retry.mutate()}
        >
          Retry
        </Button>
      </Stack>
    </Alert>
  );
}
