import { Button, Text, Textarea } from "@mantine/core";
import { useEffect, useRef, useState } from "react";

import type { Column } from "@/api/types";
import { IconPlus } from "@/app/ui/icons";

import { useCreateCard } from "../api/useCardMutations";
import classes from "./AddCard.module.css";

/** Enter adds the card and keeps the field for the next one. */
export function AddCard({ boardId, column }: { boardId: string; column: Column }) {
  const [opened, setOpened] = useState(false);
  const [title, setTitle] = useState("");
  const create = useCreateCard(boardId);
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (opened) end.current?.scrollIntoView({ block: "nearest" });
  }, [opened]);
  const add = () => {
    const text = title.trim();
    if (text === "") return;
    setTitle("");
    create.mutate({ title: text, column_id: column.id }, { onError: () => setTitle(text) });
  };
  if (!opened) {
    return (
      <Button
        variant="subtle"
        color="gray"
        size="compact-sm"
        justify="flex-start"
        leftSection={<IconPlus size={16} />}
        className={classes.add ?? ""}
        aria-label={`Add card to ${column.name}`}
        onClick={() => setOpened(true)}
      >
        Add card
      </Button>
    );
  }
  return (
    <div className={classes.form} ref={end}>
      <Textarea
        aria-label={`Title of the new card in ${column.name}`}
        placeholder="What is to be done?"
        autosize
        minRows={1}
        maxRows={5}
        maxLength={200}
        autoFocus
        value={title}
        onChange={(event) => setTitle(event.currentTarget.value)}
        onBlur={() => {
          if (title.trim() === "") setOpened(false);
        }}
        onKeyDown={(event) => {
          if (event.key === "Escape") setOpened(false);
          if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
          event.preventDefault();
          add();
        }}
      />
      <Text size="xs" c="dimmed" mt={4}>
        Enter adds it, Esc closes
        {column.kind === "start" && "; agents start on cards that are moved here"}
      </Text>
    </div>
  );
}
