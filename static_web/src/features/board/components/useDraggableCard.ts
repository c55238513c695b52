import { attachClosestEdge, extractClosestEdge } from "@atlaskit/pragmatic-drag-and-drop-hitbox/closest-edge";
import type { Edge } from "@atlaskit/pragmatic-drag-and-drop-hitbox/types";
import { combine } from "@atlaskit/pragmatic-drag-and-drop/combine";
import { draggable, dropTargetForElements } from "@atlaskit/pragmatic-drag-and-drop/element/adapter";
import { useEffect, useRef, useState } from "react";

import type { CardSummary } from "@/api/types";

import { cardData, isCard } from "./useBoardDragging";

/** Makes a card something to drag, and something to drop another card above or below. */
export function useDraggableCard({ id, column_id }: CardSummary, editable: boolean) {
  const element = useRef<HTMLElement>(null);
  const [dragged, setDragged] = useState(false);
  const [edge, setEdge] = useState<Edge | null>(null);
  useEffect(() => {
    const card = element.current;
    if (!card || !editable) return;
    return combine(
      draggable({
        element: card,
        getInitialData: () => cardData(id, column_id),
        onDragStart: () => setDragged(true),
        onDrop: () => setDragged(false),
      }),
      dropTargetForElements({
        element: card,
        canDrop: ({ source }) => isCard(source.data) && source.data.cardId !== id,
        getData: ({ input, element }) =>
          attachClosestEdge(cardData(id, column_id), { input, element, allowedEdges: ["top", "bottom"] }),
        onDrag: ({ self }) => setEdge(extractClosestEdge(self.data)),
        onDragLeave: () => setEdge(null),
        onDrop: () => setEdge(null),
      }),
    );
  }, [id, column_id, editable]);
  return { element, dragged, edge };
}
