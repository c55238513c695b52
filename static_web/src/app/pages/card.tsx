import { useParams } from "@tanstack/react-router";

import CardDrawer from "@/features/board/components/CardDrawer";

export function Card() {
  const { boardId, cardId } = useParams({ from: "/signed-in/boards/$boardId/cards/$cardId" });
  return <CardDrawer key={cardId} boardId={boardId} cardId={cardId} />;
}
