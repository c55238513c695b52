/** Short messages in the corner; screen readers hear them, for they are alerts. */
import { Button, Group, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";

import { errorText } from "@/api/problem";

import { IconAlertCircle, IconCheck } from "./icons";

export function notifyError(title: string, error: unknown): void {
  notifications.show({
    color: "red",
    icon: <IconAlertCircle />,
    title,
    message: errorText(error),
    autoClose: 10_000,
  });
}

export function notifyDone(message: string): void {
  notifications.show({ color: "teal", icon: <IconCheck />, message });
}

export function notifyUndo(message: string, undo: () => void): void {
  const id = notifications.show({
    autoClose: 10_000,
    message: (
      <Group justify="space-between" wrap="nowrap">
        <Text size="sm">{message}</Text>
        <Button
          size="compact-sm"
          variant="light"
          onClick={() => {
            notifications.hide(id);
            undo();
          }}
        >
          Undo
        </Button>
      </Group>
    ),
  });
}
