import { Select, SimpleGrid, TagsInput, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import type { Board, Card } from "@/api/types";
import { membersQuery } from "@/features/teams/api/teams";

import { moveFor } from "../api/position";
import { boardQuery } from "../api/board";
import { useChangeCard, useMoveCard } from "../api/useCardMutations";

interface Props {
  card: Card;
  board: Board;
  editable: boolean;
}

const LARGEST_LABEL = 40;
const MOST_LABELS = 20;

export function CardFields({ card, board, editable }: Props) {
  const change = useChangeCard(card.id);
  const move = useMoveCard(board.id);
  const members = useQuery(membersQuery(board.team_id));
  const view = useQuery(boardQuery(board.id));
  const moveTo = (columnId: string) => {
    const asked = moveFor(view.data?.cards ?? [], { cardId: card.id, columnId });
    if (asked) move.mutate({ cardId: card.id, move: asked });
  };
  return (
    <SimpleGrid cols={2} spacing="sm">
      <Select
        label="Column"
        data={board.columns.map(({ id, name }) => ({ value: id, label: name }))}
        value={card.column_id}
        allowDeselect={false}
        disabled={!editable || move.isPending}
        onChange={(columnId) => columnId && columnId !== card.column_id && moveTo(columnId)}
      />
      <Select
        label="Assignee"
        placeholder="Nobody"
        data={members.data?.map(({ user_id, name }) => ({ value: user_id, label: name })) ?? []}
        value={card.assignee_id}
        clearable
        searchable
        disabled={!editable}
        onChange={(assignee_id) => change.mutate({ assignee_id })}
      />
      <TagsInput
        label="Labels"
        placeholder={card.labels.length === 0 ? "Add a label, press Enter" : ""}
        data={board.labels}
        value={card.labels}
        maxTags={MOST_LABELS}
        disabled={!editable}
        onChange={(labels) => change.mutate({ labels: labels.map((label) => label.slice(0, LARGEST_LABEL)) })}
      />
      <TextInput
        key={card.due_date}
        type="date"
        label="Due date"
        defaultValue={card.due_date ?? ""}
        disabled={!editable}
        onBlur={(event) => {
          const due_date = event.currentTarget.value || null;
          if (due_date !== card.due_date) change.mutate({ due_date });
        }}
      />
    </SimpleGrid>
  );
}
