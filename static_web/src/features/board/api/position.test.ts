import { describe, expect, it } from "vitest";

import type { CardSummary } from "@/api/types";

import { moveFor, withMove, type Drop } from "./position";

const card = (id: string, column_id: string) => ({ id, column_id }) as CardSummary;

const CARDS = [card("a", "todo"), card("b", "todo"), card("c", "todo"), card("x", "doing"), card("y", "doing")];

function columnAfter(drop: Drop): string[] | null {
  const move = moveFor(CARDS, drop);
  if (!move) return null;
  return withMove(CARDS, drop.cardId, move)
    .filter(({ column_id }) => column_id === drop.columnId)
    .map(({ id }) => id);
}

describe("moving a card", () => {
  it("names the neighbours above and below", () => {
    expect(moveFor(CARDS, { cardId: "a", columnId: "doing", target: { cardId: "y", edge: "top" } })).toEqual({
      column_id: "doing",
      before_id: "x",
      after_id: "y",
      expected_column: "todo",
    });
  });

  it("has no neighbour above at the top, none below at the end", () => {
    const top = moveFor(CARDS, { cardId: "a", columnId: "doing", target: { cardId: "x", edge: "top" } });
    expect(top).toMatchObject({ before_id: null, after_id: "x" });
    expect(moveFor(CARDS, { cardId: "a", columnId: "doing" })).toMatchObject({ before_id: "y", after_id: null });
  });

  it("shows the card where it was dropped before the API answers", () => {
    expect(columnAfter({ cardId: "a", columnId: "doing", target: { cardId: "x", edge: "bottom" } })).toEqual(["x", "a", "y"]);
    expect(columnAfter({ cardId: "c", columnId: "todo", target: { cardId: "a", edge: "top" } })).toEqual(["c", "a", "b"]);
    expect(columnAfter({ cardId: "a", columnId: "todo" })).toEqual(["b", "c", "a"]);
    expect(columnAfter({ cardId: "a", columnId: "empty" })).toEqual(["a"]);
  });

  it("asks nothing when the card stays where it is", () => {
    expect(columnAfter({ cardId: "b", columnId: "todo", target: { cardId: "b", edge: "top" } })).toBeNull();
    expect(columnAfter({ cardId: "b", columnId: "todo", target: { cardId: "a", edge: "bottom" } })).toBeNull();
    expect(columnAfter({ cardId: "b", columnId: "todo", target: { cardId: "c", edge: "top" } })).toBeNull();
    expect(columnAfter({ cardId: "c", columnId: "todo" })).toBeNull();
  });
});
