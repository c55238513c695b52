import { Alert, Button, Group, Stack, Tabs, Text, Textarea } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { isProblem } from "@/api/problem";
import type { Card } from "@/api/types";
import { IconAlertTriangle, IconPencil } from "@/app/ui/icons";
import { Markdown } from "@/app/ui/Markdown";
import { notifyError } from "@/app/ui/notify";

import { cardQuery, changeCard } from "../api/cards";
import { showCard } from "../api/useCardMutations";

interface Draft {
  text: string;
  /** The body the draft began from, to tell a real conflict from a change elsewhere on the card. */
  base: string;
}

export function CardBody({ card, editable }: { card: Card; editable: boolean }) {
  const [draft, setDraft] = useState<Draft | null>(null);
  return (
    <section aria-label="Description">
      <Group justify="space-between" mb="xs">
        <Text component="h3" size="sm" fw={600}>
          Description
        </Text>
        {editable && draft === null && (
          <Button
            size="compact-sm"
            variant="subtle"
            leftSection={<IconPencil size={15} />}
            onClick={() => setDraft({ text: card.body, base: card.body })}
          >
            Edit
          </Button>
        )}
      </Group>
      {draft ? (
        <Editor card={card} draft={draft} onDraft={setDraft} />
      ) : card.body ? (
        <Markdown text={card.body} />
      ) : (
        <Text size="sm" c="dimmed">
          No description yet. Agents read it: say what is to be done, and how to tell that it works.
        </Text>
      )}
    </section>
  );
}

interface EditorProps {
  card: Card;
  draft: Draft;
  onDraft: (draft: Draft | null) => void;
}

function Editor({ card, draft, onDraft }: EditorProps) {
  const { save, theirs, forget } = useSaveBody(card, draft, () => onDraft(null));
  return (
    <Stack gap="sm">
      <Tabs defaultValue="edit" variant="outline">
        <Tabs.List mb="xs">
          <Tabs.Tab value="edit">Edit</Tabs.Tab>
          <Tabs.Tab value="preview">Preview</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="edit">
          <Textarea
            aria-label="Description in markdown"
            placeholder="Markdown"
            styles={{ input: { fontFamily: "var(--mantine-font-family-monospace)", fontSize: "0.8125rem" } }}
            autosize
            minRows={8}
            maxRows={24}
            maxLength={64_000}
            autoFocus
            value={draft.text}
            onChange={(event) => onDraft({ ...draft, text: event.currentTarget.value })}
            onKeyDown={(event) => {
              if (event.key === "Escape") event.stopPropagation();
              if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) save.mutate(card.etag);
            }}
          />
        </Tabs.Panel>
        <Tabs.Panel value="preview" mih={120}>
          <Markdown text={draft.text || "*Nothing to show*"} />
        </Tabs.Panel>
      </Tabs>
      {theirs && (
        <Alert color="yellow" icon={<IconAlertTriangle />} title="Somebody else changed this description">
          <Group gap="xs" mt="xs">
            <Button
              size="xs"
              variant="default"
              onClick={() => {
                onDraft({ text: theirs.body, base: theirs.body });
                forget();
              }}
            >
              Load theirs
            </Button>
            <Button size="xs" color="yellow" loading={save.isPending} onClick={() => save.mutate(theirs.etag)}>
              Keep mine
            </Button>
          </Group>
        </Alert>
      )}
      <Group gap="xs">
        <Button size="sm" loading={save.isPending} disabled={theirs !== null} onClick={() => save.mutate(card.etag)}>
          Save
        </Button>
        <Button size="sm" variant="subtle" color="gray" onClick={() => onDraft(null)}>
          Cancel
        </Button>
      </Group>
    </Stack>
  );
}

/** Saves under the etag last read; a card whose body is still the draft's base is no conflict. */
function useSaveBody(card: Card, draft: Draft, onSaved: () => void) {
  const cache = useQueryClient();
  const [theirs, setTheirs] = useState<Card | null>(null);
  const save = useMutation({
    mutationFn: async (etag: string) => {
      if (theirs === null && card.body !== draft.base) return card;
      try {
        return await changeCard(card.id, { body: draft.text }, etag);
      } catch (error) {
        if (!isProblem(error, 412)) throw error;
        const present = await cache.query({ ...cardQuery(card.id), staleTime: 0 });
        if (present.body !== draft.base) return present;
        return changeCard(card.id, { body: draft.text }, present.etag);
      }
    },
    onSuccess: (saved) => {
      if (saved.body !== draft.text) {
        setTheirs(saved);
        return;
      }
      showCard(cache, saved);
      onSaved();
    },
    onError: (error) => notifyError("The description was not saved", error),
  });
  return { save, theirs, forget: () => setTheirs(null) };
}
