/** What became of a task, and what a person can do about it. */
import { Alert, Button, Group, Stack, Text } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import type { Task } from "@/api/types";
import { ConfirmModal } from "@/app/ui/ConfirmModal";
import { IconAlertCircle, IconAlertTriangle, IconArrowBackUp, IconRefresh, IconX } from "@/app/ui/icons";
import { notifyError } from "@/app/ui/notify";

import { cancelTask, isDeletion, retryTask, taskQuery } from "../api/workspaces";

interface Props {
  task: Task;
  manages: boolean;
  onChanged: () => void;
}

export function TaskOutcome({ task, manages, onChanged }: Props) {
  const said = isDeletion(task) ? DELETIONS[task.status] : CREATIONS[task.status];
  if (task.status === "pending" || task.status === "running") {
    return manages && !isDeletion(task) ? (
      <Group justify="flex-end">
        <Cancel task={task} onChanged={onChanged} />
      </Group>
    ) : null;
  }
  if (!said) return null;
  return (
    <Alert color={said.color} icon={<said.icon />} title={said.title}>
      <Stack gap="sm" align="flex-start">
        {task.error && <Text size="sm">{task.error}</Text>}
        {said.note && <Text size="sm">{said.note}</Text>}
        {manages && (
          <Group gap="xs">
            {said.retry && <Retry task={task} label={said.retry} color={said.color} onChanged={onChanged} />}
            {said.undo && <Cancel task={task} onChanged={onChanged} />}
          </Group>
        )}
      </Stack>
    </Alert>
  );
}

interface Said {
  color: string;
  icon: typeof IconX;
  title: string;
  note?: string;
  /** What the button says that goes on. */
  retry?: string;
  undo?: boolean;
}

const CREATIONS: Partial<Record<Task["status"], Said>> = {
  failed: {
    color: "red",
    icon: IconAlertCircle,
    title: "This did not work",
    note: "What was made so far is kept. A retry goes on with the step that failed.",
    retry: "Retry",
    undo: true,
  },
  rolling_back: { color: "orange", icon: IconArrowBackUp, title: "Being undone" },
  rolled_back: {
    color: "red",
    icon: IconAlertCircle,
    title: "This did not work, and was undone",
    note: "Nothing of it is left. You can begin again once the reason is out of the way.",
    retry: "Begin again",
  },
  cancelled: {
    color: "gray",
    icon: IconX,
    title: "Cancelled",
    note: "Nothing of it is left.",
    retry: "Begin again",
  },
  needs_attention: {
    color: "orange",
    icon: IconAlertTriangle,
    title: "This needs somebody's attention",
    note: "It stopped half way. Once the reason is out of the way, a retry goes on from there.",
    retry: "Retry",
    undo: true,
  },
};

const DELETIONS: Partial<Record<Task["status"], Said>> = {
  needs_attention: {
    color: "orange",
    icon: IconAlertTriangle,
    title: "The deletion stopped half way",
    note: "What is deleted stays deleted. A retry goes on from there.",
    retry: "Retry",
  },
};

function useChange(task: Task, change: (id: string) => Promise<Task>, failure: string, onChanged: () => void) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: () => change(task.id),
    onSuccess: (changed) => {
      cache.setQueryData(taskQuery(task.id).queryKey, changed);
      onChanged();
    },
    onError: (error) => {
      notifyError(failure, error);
      void cache.invalidateQueries({ queryKey: taskQuery(task.id).queryKey });
    },
  });
}

interface RetryProps {
  task: Task;
  label: string;
  color: string;
  onChanged: () => void;
}

function Retry({ task, label, color, onChanged }: RetryProps) {
  const retry = useChange(task, retryTask, "The retry did not start", onChanged);
  return (
    <Button
      size="xs"
      color={color === "gray" ? "brand" : color}
      leftSection={<IconRefresh size={16} />}
      loading={retry.isPending}
      onClick={() => retry.mutate()}
    >
      {label}
    </Button>
  );
}

/** Of work under way, or of what failed: the same undoing. */
function Cancel({ task, onChanged }: { task: Task; onChanged: () => void }) {
  const [asking, setAsking] = useState(false);
  const working = task.status === "pending" || task.status === "running";
  const cancel = useChange(task, cancelTask, "It was not cancelled", onChanged);
  return (
    <>
      <Button
        size="xs"
        variant="default"
        leftSection={working ? <IconX size={16} /> : <IconArrowBackUp size={16} />}
        loading={cancel.isPending}
        onClick={() => setAsking(true)}
      >
        {working ? "Cancel" : "Undo what was made"}
      </Button>
      <ConfirmModal
        opened={asking}
        title={working ? "Cancel this?" : "Undo what was made?"}
        confirm={working ? "Cancel and undo" : "Undo"}
        keep="Keep going"
        onConfirm={() => {
          setAsking(false);
          cancel.mutate();
        }}
        onClose={() => setAsking(false)}
      >
        Everything that was made so far is removed again, with whatever was pushed to its repository.
        You can begin anew at any time.
      </ConfirmModal>
    </>
  );
}
