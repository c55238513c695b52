import { queryOptions } from "@tanstack/react-query";

import { api } from "@/api/client";
import { keys } from "@/api/keys";
import type { BoardView, CardSummary, Column, ColumnKind, Page } from "@/api/types";
import { snapshot } from "@/realtime/apply";

export const boardQuery = (id: string) =>
  queryOptions({
    queryKey: keys.board(id),
    queryFn: ({ client }) =>
      snapshot(
        () => api.get<BoardView>(`/boards/${id}`),
        () => client.getQueryData<BoardView>(keys.board(id)),
        ({ board }) => board.sequence,
      ),
  });

/** The board finds what its summaries do not show, such as words in a card's body. */
export const searchQuery = (boardId: string, text: string) =>
  queryOptions({
    queryKey: keys.search(boardId, text),
    queryFn: async ({ signal }) =>
      (await api.get<Page<CardSummary>>(`/boards/${boardId}/search`, { query: { q: text }, signal })).items,
    staleTime: 5_000,
  });

export interface ColumnChange {
  name?: string;
  kind?: ColumnKind;
  after_id?: string | null;
}

export const createColumn = (boardId: string, body: { name: string; kind: ColumnKind; after_id: string | null }) =>
  api.post<Column>(`/boards/${boardId}/columns`, { body });

export const changeColumn = (boardId: string, columnId: string, body: ColumnChange) =>
  api.patch<Column>(`/boards/${boardId}/columns/${columnId}`, { body });

export const deleteColumn = (boardId: string, columnId: string) => api.delete(`/boards/${boardId}/columns/${columnId}`);
