/** Where a moved card stands: in terms of its neighbours, since only the API makes ranks. */
import type { CardMove, CardSummary } from "@/api/types";

export interface Drop {
  cardId: string;
  columnId: string;
  /** The card dropped onto and which side of it; none: the end of the column. */
  target?: { cardId: string; edge: "top" | "bottom" } | undefined;
}

/** What to ask of the API; null when the card would stay where it is. */
export function moveFor(cards: CardSummary[], { cardId, columnId, target }: Drop): CardMove | null {
  const card = cards.find(({ id }) => id === cardId);
  if (!card || target?.cardId === cardId) return null;
  const column = cards.filter((other) => other.column_id === columnId && other.id !== cardId);
  const at = insertionIndex(column, target);
  const before_id = column[at - 1]?.id ?? null;
  const after_id = column[at]?.id ?? null;
  if (card.column_id === columnId && at === currentIndex(cards, card)) return null;
  return { column_id: columnId, before_id, after_id, expected_column: card.column_id };
}

/** The board as it will look, until the API confirms it or refuses. */
export function withMove(cards: CardSummary[], cardId: string, move: CardMove): CardSummary[] {
  const card = cards.find(({ id }) => id === cardId);
  if (!card) return cards;
  const others = cards.filter(({ id }) => id !== cardId);
  const moved = { ...card, column_id: move.column_id };
  const below = others.findIndex(({ id }) => id === move.after_id);
  return below === -1 ? [...others, moved] : others.toSpliced(below, 0, moved);
}

function insertionIndex(column: CardSummary[], target: Drop["target"]): number {
  const index = column.findIndex(({ id }) => id === target?.cardId);
  if (index === -1) return column.length;
  return target?.edge === "bottom" ? index + 1 : index;
}

function currentIndex(cards: CardSummary[], card: CardSummary): number {
  return cards.filter(({ column_id }) => column_id === card.column_id).findIndex(({ id }) => id === card.id);
}
