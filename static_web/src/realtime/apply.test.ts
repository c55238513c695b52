import { describe, expect, it } from "vitest";

import type { BoardView, CardSummary, PlatformEvent } from "@/api/types";

import { applyToBoard, newest, placeByRank, snapshot } from "./apply";

function card(id: string, rank: string, column_id = "todo", revision = 1): CardSummary {
  return {
    id,
    rank,
    column_id,
    title: id,
    labels: [],
    assignee_id: null,
    due_date: null,
    checklist_done: 0,
    checklist_total: 0,
    comment_count: 0,
    run: null,
    etag: "",
    updated_at: "",
    revision,
  };
}

function view(cards: CardSummary[], sequence = 1): BoardView {
  const agents = { enabled: true, reason: null, agent_id: null, demo_model: false, isolated: true };
  const board = { id: "b", name: "B", team_id: "t", workspace_id: null, role: "member" as const };
  return { board: { ...board, columns: [], labels: [], repository: null, agents, sequence }, cards };
}

function event(type: string, sequence: number, data: unknown): PlatformEvent {
  return { id: `e${sequence}`, type, sequence, time: "", subject: "board/b", data };
}

const ids = (state: BoardView) => state.cards.map(({ id }) => id);

describe("applyToBoard", () => {
  it("moves a card to the place of its rank in another column", () => {
    const state = view([card("a", "1"), card("x", "1", "doing"), card("y", "5", "doing")]);
    const moved = applyToBoard(state, event("card.moved", 2, { card: card("a", "3", "doing") }));
    expect(ids(moved)).toEqual(["x", "a", "y"]);
    expect(moved.board.sequence).toBe(2);
  });

  it("does nothing the second time", () => {
    const comment = event("comment.created", 2, { card_id: "a", comment: {}, comment_count: 1 });
    const once = applyToBoard(view([card("a", "1")]), comment);
    expect(once.cards[0]?.comment_count).toBe(1);
    expect(applyToBoard(once, comment)).toBe(once);
  });

  it("counts no comment twice that the view knew before its event came", () => {
    const known = view([{ ...card("a", "1"), comment_count: 3 }]);
    const after = applyToBoard(known, event("comment.created", 2, { card_id: "a", comment: {}, comment_count: 3 }));
    expect(after.cards[0]?.comment_count).toBe(3);
  });

  it("keeps the later state of a card whose events come in another order", () => {
    const later = applyToBoard(view([card("a", "1")]), event("card.moved", 2, { card: card("a", "1", "done", 3) }));
    const after = applyToBoard(later, event("card.moved", 3, { card: card("a", "1", "doing", 2) }));
    expect(after.cards.map(({ column_id }) => column_id)).toEqual(["done"]);
    expect(after.board.sequence).toBe(3);
  });

  it("keeps the number of comments that a state told late does not know", () => {
    const commented = view([{ ...card("a", "1"), comment_count: 1 }]);
    const after = applyToBoard(commented, event("card.updated", 2, { card: card("a", "1", "todo", 2) }));
    expect(after.cards[0]?.comment_count).toBe(1);
  });

  it("keeps a restored card whose deletion is told late", () => {
    const restored = view([card("a", "1", "todo", 3)]);
    expect(ids(applyToBoard(restored, event("card.deleted", 2, { card: card("a", "1", "todo", 2) })))).toEqual(["a"]);
  });

  it("does not bring back a deleted card for a change that was told late", () => {
    const after = applyToBoard(view([card("b", "2")]), event("card.moved", 2, { card: card("a", "1", "doing", 2) }));
    expect(ids(after)).toEqual(["b"]);
    expect(after.board.sequence).toBe(2);
  });

  it("passes over event types it does not know, so that they are no gap", () => {
    expect(applyToBoard(view([]), event("card.frozen", 2, {})).board.sequence).toBe(2);
  });

  it("removes a deleted card and shows a restored one again", () => {
    const without = applyToBoard(view([card("a", "1"), card("b", "2")]), event("card.deleted", 2, { card: card("a", "1") }));
    expect(ids(without)).toEqual(["b"]);
    expect(ids(applyToBoard(without, event("card.created", 3, { card: card("a", "1") })))).toEqual(["a", "b"]);
  });

  it("offers a label as soon as a card has it", () => {
    const labelled = { ...card("a", "1"), labels: ["bug"] };
    expect(applyToBoard(view([card("a", "1")]), event("card.updated", 2, { card: labelled })).board.labels).toEqual(["bug"]);
  });
});

describe("placeByRank", () => {
  it("orders equal ranks by id, as the API does", () => {
    expect(placeByRank([card("b", "1")], card("a", "1")).map(({ id }) => id)).toEqual(["a", "b"]);
  });
});

describe("snapshot", () => {
  const sequence = (state: number) => state;

  it("is fetched again when events have taken the known state further meanwhile", async () => {
    const fetched = [5, 6, 8];
    const known = [6, 7, 7];
    const fetch = () => Promise.resolve(fetched.shift() ?? NaN);
    expect(await snapshot(fetch, () => known.shift(), sequence)).toBe(8);
  });

  it("is not waited for while events keep coming", async () => {
    let asked = 0;
    const fetch = () => Promise.resolve((asked += 1));
    expect(await snapshot(fetch, () => asked + 1, sequence)).toBe(3);
    expect(asked).toBe(3);
  });
});

describe("newest", () => {
  it("keeps a state that events have taken further than the snapshot", () => {
    expect(newest(7, 5, (sequence) => sequence)).toBe(7);
    expect(newest(5, 7, (sequence) => sequence)).toBe(7);
    expect(newest(undefined, 7, (sequence) => sequence)).toBe(7);
  });
});
