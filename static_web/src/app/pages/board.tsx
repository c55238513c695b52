import { useParams } from "@tanstack/react-router";

import { BoardPage } from "@/features/board/components/BoardPage";

export function Board() {
  return <BoardPage {...useParams({ from: "/signed-in/boards/$boardId" })} />;
}
