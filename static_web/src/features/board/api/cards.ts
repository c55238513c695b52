import { queryOptions } from "@tanstack/react-query";

import { api } from "@/api/client";
import { keys } from "@/api/keys";
import type { Card, CardChanges, CardMove, CardSummary, Comment, HistoryEntry, NewCard, Page } from "@/api/types";

export const cardQuery = (id: string) =>
  queryOptions({ queryKey: keys.card(id), queryFn: () => api.get<Card>(`/cards/${id}`) });

export const createCard = (boardId: string, body: NewCard) => api.post<Card>(`/boards/${boardId}/cards`, { body });

export const changeCard = (id: string, body: CardChanges, ifMatch?: string) =>
  api.patch<Card>(`/cards/${id}`, { body, ifMatch });

export const moveCard = (id: string, body: CardMove) => api.post<Card>(`/cards/${id}/move`, { body });
export const deleteCard = (id: string) => api.delete(`/cards/${id}`);
export const restoreCard = (id: string) => api.post<Card>(`/cards/${id}/restore`);

export const commentsQuery = (cardId: string) =>
  queryOptions({ queryKey: keys.comments(cardId), queryFn: () => api.get<Page<Comment>>(`/cards/${cardId}/comments`) });

export const createComment = (cardId: string, body: string) =>
  api.post<Comment>(`/cards/${cardId}/comments`, { body: { body } });

export const historyQuery = (cardId: string) =>
  queryOptions({
    queryKey: keys.history(cardId),
    queryFn: async () => (await api.get<Page<HistoryEntry>>(`/cards/${cardId}/history`)).items,
  });

export function summaryOf(card: Card): CardSummary {
  const { body: _, checklist: _1, created_at: _2, created_by: _3, result: _4, ...summary } = card;
  return summary;
}
