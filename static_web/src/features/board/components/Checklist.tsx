import { ActionIcon, Checkbox, Group, Progress, Stack, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import type { Card, ChecklistItem } from "@/api/types";
import { IconPlus, IconX } from "@/app/ui/icons";

import { useChangeCard } from "../api/useCardMutations";

export function Checklist({ card, editable }: { card: Card; editable: boolean }) {
  const change = useChangeCard(card.id);
  const { checklist } = card;
  const save = (items: ChecklistItem[]) => change.mutate({ checklist: items });
  if (!editable && checklist.length === 0) return null;
  const done = checklist.filter((item) => item.done).length;
  return (
    <section aria-label="Checklist">
      <Group justify="space-between" mb="xs">
        <Text component="h3" size="sm" fw={600}>
          Checklist
        </Text>
        {checklist.length > 0 && (
          <Text size="xs" c="dimmed">
            {done} of {checklist.length}
          </Text>
        )}
      </Group>
      {checklist.length > 0 && (
        <Progress value={(done / checklist.length) * 100} size="sm" mb="sm" color="teal" aria-label="Checklist progress" />
      )}
      <Stack gap={6}>
        {checklist.map((item) => (
          <Group key={item.id} wrap="nowrap" gap="xs">
            <Checkbox
              flex={1}
              label={item.text}
              checked={item.done}
              disabled={!editable}
              onChange={(event) => {
                const checked = event.currentTarget.checked;
                save(checklist.map((other) => (other.id === item.id ? { ...other, done: checked } : other)));
              }}
            />
            {editable && (
              <ActionIcon
                variant="subtle"
                color="gray"
                size="sm"
                aria-label={`Remove ${item.text}`}
                onClick={() => save(checklist.filter((other) => other.id !== item.id))}
              >
                <IconX size={14} />
              </ActionIcon>
            )}
          </Group>
        ))}
        {editable && <AddItem onAdd={(text) => save([...checklist, { id: newItemId(), text, done: false }])} />}
      </Stack>
    </section>
  );
}

function AddItem({ onAdd }: { onAdd: (text: string) => void }) {
  const [text, setText] = useState("");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (text.trim() === "") return;
        onAdd(text.trim());
        setText("");
      }}
    >
      <TextInput
        aria-label="New checklist item"
        placeholder="Add an item"
        size="xs"
        maxLength={500}
        leftSection={<IconPlus size={14} />}
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
      />
    </form>
  );
}

function newItemId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(5)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
