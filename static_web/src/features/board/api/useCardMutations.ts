/** Changes of cards: shown at once, taken back with the server's reason when it refuses. */
import { useMutation, useQueryClient, type QueryClient } from "@tanstack/react-query";

import { keys } from "@/api/keys";
import type { BoardView, Card, CardChanges, CardMove, NewCard } from "@/api/types";
import { notifyDone, notifyError, notifyUndo } from "@/app/ui/notify";
import { placeByRank } from "@/realtime/apply";

import { boardQuery } from "./board";
import { cardQuery, changeCard, createCard, deleteCard, moveCard, restoreCard, summaryOf } from "./cards";
import { withMove } from "./position";

export function useMoveCard(boardId: string) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: ({ cardId, move }: { cardId: string; move: CardMove }) => moveCard(cardId, move),
    onMutate: ({ cardId, move }) => {
      changeBoard(cache, boardId, (view) => ({ ...view, cards: withMove(view.cards, cardId, move) }));
    },
    onSuccess: (card) => showCard(cache, card),
    onError: (error) => {
      notifyError("The card was not moved", error);
      return cache.invalidateQueries({ queryKey: keys.board(boardId) });
    },
  });
}

export function useCreateCard(boardId: string) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (card: NewCard) => createCard(boardId, card),
    onSuccess: (card) => showCard(cache, card),
    onError: (error) => notifyError("The card was not added", error),
  });
}

/** Fields other than the body: the last change wins, field by field. */
export function useChangeCard(cardId: string) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (changes: CardChanges) => changeCard(cardId, changes),
    onMutate: (changes) => {
      cache.setQueryData(cardQuery(cardId).queryKey, (card) => (card ? { ...card, ...changes } : undefined));
    },
    onSuccess: (card) => showCard(cache, card),
    onError: (error) => {
      notifyError("The change was not saved", error);
      return cache.invalidateQueries({ queryKey: keys.card(cardId) });
    },
  });
}

export function useDeleteCard(boardId: string) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (card: { id: string; title: string }) => deleteCard(card.id),
    onSuccess: (_, card) => {
      changeBoard(cache, boardId, (view) => ({ ...view, cards: view.cards.filter(({ id }) => id !== card.id) }));
      cache.removeQueries({ queryKey: keys.card(card.id) });
      notifyUndo(`“${card.title}” was deleted.`, () => {
        restoreCard(card.id).then(
          (restored) => {
            showCard(cache, restored);
            notifyDone(`“${card.title}” is back.`);
          },
          (error: unknown) => notifyError("The card was not restored", error),
        );
      });
    },
    onError: (error) => notifyError("The card was not deleted", error),
  });
}

export function showCard(cache: QueryClient, card: Card): void {
  cache.setQueryData(cardQuery(card.id).queryKey, (known) => (known && known.revision > card.revision ? known : card));
  changeBoard(cache, card.board_id, (view) => ({ ...view, cards: placeByRank(view.cards, summaryOf(card)) }));
}

function changeBoard(cache: QueryClient, boardId: string, change: (view: BoardView) => BoardView): void {
  cache.setQueryData(boardQuery(boardId).queryKey, (view) => (view ? change(view) : undefined));
}
