/** Moving a card without a pointer. */
import { ActionIcon, Menu } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";

import type { Board, CardSummary } from "@/api/types";
import { IconDots, IconRobot } from "@/app/ui/icons";

import { boardQuery } from "../api/board";
import { moveFor, type Drop } from "../api/position";
import { useMoveCard } from "../api/useCardMutations";

/** In its new column a card is a new element, there once the board has been drawn anew. */
const FOCUS_AFTER_MS = 100;

interface Props {
  board: Board;
  card: CardSummary;
  className?: string | undefined;
}

export function MoveMenu({ board, card, className }: Props) {
  const cache = useQueryClient();
  const { mutate } = useMoveCard(board.id);
  const cards = cache.getQueryData(boardQuery(board.id).queryKey)?.cards ?? [];
  const column = cards.filter(({ column_id }) => column_id === card.column_id);
  const index = column.findIndex(({ id }) => id === card.id);
  const above = column[index - 1];
  const below = column[index + 1];
  const move = (drop: Omit<Drop, "cardId">) => {
    const asked = moveFor(cards, { cardId: card.id, ...drop });
    if (!asked) return;
    mutate({ cardId: card.id, move: asked });
    setTimeout(() => document.querySelector<HTMLElement>(`[data-moves="${card.id}"]`)?.focus(), FOCUS_AFTER_MS);
  };
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <ActionIcon
          data-moves={card.id}
          size="sm"
          variant="default"
          aria-label={`Move ${card.title}`}
          {...(className !== undefined && { className })}
        >
          <IconDots size={15} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>Move to</Menu.Label>
        {board.columns
          .filter(({ id }) => id !== card.column_id)
          .map((target) => (
            <Menu.Item
              key={target.id}
              leftSection={target.kind === "start" ? <IconRobot size={15} /> : undefined}
              onClick={() => move({ columnId: target.id })}
            >
              {target.name}
            </Menu.Item>
          ))}
        <Menu.Divider />
        <Menu.Item
          disabled={!above}
          onClick={() => above && move({ columnId: card.column_id, target: { cardId: above.id, edge: "top" } })}
        >
          Up
        </Menu.Item>
        <Menu.Item
          disabled={!below}
          onClick={() => below && move({ columnId: card.column_id, target: { cardId: below.id, edge: "bottom" } })}
        >
          Down
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
