/** Turns drops of cards into moves, and scrolls the board while one is dragged to its edge. */
import { autoScrollForElements } from "@atlaskit/pragmatic-drag-and-drop-auto-scroll/element";
import { extractClosestEdge } from "@atlaskit/pragmatic-drag-and-drop-hitbox/closest-edge";
import { combine } from "@atlaskit/pragmatic-drag-and-drop/combine";
import { monitorForElements } from "@atlaskit/pragmatic-drag-and-drop/element/adapter";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";

import { boardQuery } from "../api/board";
import { moveFor, type Drop } from "../api/position";
import { useMoveCard } from "../api/useCardMutations";

type Data = Record<string | symbol, unknown>;

export const cardData = (cardId: string, columnId: string): Data => ({ kind: "card", cardId, columnId });
export const columnData = (columnId: string): Data => ({ kind: "column", columnId });
export const isCard = (data: Data): boolean => data.kind === "card";

export function useBoardDragging(boardId: string, editable: boolean) {
  const scroller = useRef<HTMLDivElement>(null);
  const cache = useQueryClient();
  const { mutate } = useMoveCard(boardId);
  useEffect(() => {
    const element = scroller.current;
    if (!element || !editable) return;
    return combine(
      autoScrollForElements({ element, canScroll: ({ source }) => isCard(source.data) }),
      monitorForElements({
        canMonitor: ({ source }) => isCard(source.data),
        onDrop: ({ source, location }) => {
          const drop = dropFrom(source.data, location.current.dropTargets);
          const view = cache.getQueryData(boardQuery(boardId).queryKey);
          const move = drop && view ? moveFor(view.cards, drop) : null;
          if (drop && move) mutate({ cardId: drop.cardId, move });
        },
      }),
    );
  }, [boardId, editable, cache, mutate]);
  return scroller;
}

function dropFrom(source: Data, targets: { data: Data }[]): Drop | null {
  const { cardId } = source;
  const columnId = targets[0]?.data.columnId;
  if (typeof cardId !== "string" || typeof columnId !== "string") return null;
  const onto = targets.find(({ data }) => isCard(data))?.data;
  if (!onto) return { cardId, columnId };
  const edge = extractClosestEdge(onto) === "top" ? "top" : "bottom";
  return { cardId, columnId, target: { cardId: String(onto.cardId), edge } };
}
