import { Box, Group, Loader, Paper, Progress, Stack, Text, ThemeIcon } from "@mantine/core";

import type { Task, TaskStep } from "@/api/types";
import { elapsed } from "@/app/ui/format";
import { IconArrowBackUp, IconCheck, IconCircleDashed, IconX } from "@/app/ui/icons";
import { useNow } from "@/app/ui/useNow";

import { isAtWork } from "../api/workspaces";
import { overallProgress } from "./progress";
import { TaskOutcome } from "./TaskOutcome";

interface Props {
  task: Task;
  /** Whether this person may cancel and retry it. */
  manages: boolean;
  onChanged: () => void;
}

export function TaskProgress({ task, manages, onChanged }: Props) {
  const atWork = isAtWork(task.status);
  const now = useNow(atWork);
  const overall = Math.round(overallProgress(task) * 100);
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
            color={COLORS[task.status]}
            animated={atWork}
            aria-label="Overall progress"
          />
        </Stack>
        <Stack gap="md" component="ol" p={0} m={0} style={{ listStyle: "none" }} aria-label="Steps">
          {task.steps.map((step) => (
            <Step key={step.name} step={step} now={now} />
          ))}
        </Stack>
        <TaskOutcome task={task} manages={manages} onChanged={onChanged} />
      </Stack>
    </Paper>
  );
}

const COLORS: Record<Task["status"], string> = {
  pending: "brand",
  running: "brand",
  succeeded: "teal",
  failed: "red",
  rolling_back: "orange",
  rolled_back: "red",
  cancelled: "gray",
  needs_attention: "orange",
};

function Step({ step, now }: { step: TaskStep; now: number }) {
  const busy = step.status === "running" || step.status === "undoing";
  return (
    <Group component="li" align="flex-start" wrap="nowrap" gap="sm" aria-label={`${step.title}: ${step.status}`}>
      <StepIcon status={step.status} />
      <Box flex={1} miw={0} pt={2}>
        <Group justify="space-between" wrap="nowrap" gap="xs">
          <Text
            size="sm"
            fw={busy ? 600 : 450}
            {...(step.status === "pending" && { c: "dimmed" })}
            {...(step.status === "undone" && { c: "dimmed", td: "line-through" })}
          >
            {step.title}
          </Text>
          <Text size="xs" c="dimmed" style={{ whiteSpace: "nowrap", fontVariantNumeric: "tabular-nums" }}>
            {UNDOING[step.status]}
            {step.started_at !== null && elapsed(step.started_at, step.finished_at, now)}
          </Text>
        </Group>
        {step.note && busy && (
          <Text size="xs" c="dimmed" mt={2}>
            {step.note}
          </Text>
        )}
        {busy && step.attempts > 1 && (
          <Text size="xs" c="dimmed" mt={2}>
            Attempt {step.attempts}
          </Text>
        )}
        {step.error && (
          <Text size="xs" c="red" mt={2}>
            {step.error}
          </Text>
        )}
        {busy && (
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

const UNDOING: Partial<Record<TaskStep["status"], string>> = { undoing: "Undoing ", undone: "Undone " };

function StepIcon({ status }: { status: TaskStep["status"] }) {
  if (status === "running" || status === "undoing") {
    return (
      <ThemeIcon variant="light" radius="xl" size={26} {...(status === "undoing" && { color: "orange" })}>
        <Loader size={14} {...(status === "undoing" && { color: "orange" })} />
      </ThemeIcon>
    );
  }
  const [color, Icon] = (
    {
      pending: ["gray", IconCircleDashed],
      succeeded: ["teal", IconCheck],
      failed: ["red", IconX],
      undone: ["gray", IconArrowBackUp],
    } as const
  )[status];
  return (
    <ThemeIcon variant="light" radius="xl" size={26} color={color}>
      <Icon size={15} />
    </ThemeIcon>
  );
}
