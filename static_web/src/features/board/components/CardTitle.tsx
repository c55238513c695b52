import { Textarea, Title } from "@mantine/core";
import { useRef, useState } from "react";

import type { Card } from "@/api/types";

import { useChangeCard } from "../api/useCardMutations";
import classes from "./CardTitle.module.css";

/** Text until it is clicked or entered; Enter or leaving it saves, Escape gives up. */
export function CardTitle({ card, editable }: { card: Card; editable: boolean }) {
  const [draft, setDraft] = useState<string | null>(null);
  const givenUp = useRef(false);
  const change = useChangeCard(card.id);
  if (!editable) {
    return (
      <Title order={2} size="h3">
        {card.title}
      </Title>
    );
  }
  const save = () => {
    const title = draft?.trim() ?? "";
    setDraft(null);
    if (!givenUp.current && title !== "" && title !== card.title) change.mutate({ title });
    givenUp.current = false;
  };
  return (
    <Textarea
      aria-label="Title"
      classNames={{ input: classes.input ?? "" }}
      autosize
      minRows={1}
      maxLength={200}
      value={draft ?? card.title}
      onChange={(event) => setDraft(event.currentTarget.value)}
      onBlur={save}
      onKeyDown={(event) => {
        if (event.key === "Escape") {
          event.stopPropagation();
          givenUp.current = true;
          event.currentTarget.blur();
        } else if (event.key === "Enter" && !event.nativeEvent.isComposing) {
          event.preventDefault();
          event.currentTarget.blur();
        }
      }}
    />
  );
}
