import { QueryClient } from "@tanstack/react-query";
import { describe, expect, it, vi } from "vitest";

import { keys } from "@/api/keys";
import type { PlatformEvent } from "@/api/types";

import { CacheStore } from "./store";

const CARD = "card_1";

function event(type: string, data: object): PlatformEvent {
  return { id: type, type, time: "", subject: "board/board_1", sequence: 1, data };
}

describe("CacheStore", () => {
  it("still reads a moved card anew after an agent's event has written to it", () => {
    const cache = new QueryClient();
    cache.setQueryData(keys.card(CARD), { id: CARD, column_id: "ready", run: null });
    const store = new CacheStore(cache);
    store.spread(event("card.moved", { card: { id: CARD, column_id: "progress" }, changes: [] }));
    store.spread(event("agent.queued", { board_id: "board_1", card_id: CARD, run: { id: "run_1", status: "queued" } }));
    expect(cache.getQueryData(keys.card(CARD))).toMatchObject({ run: { id: "run_1", status: "queued" } });
    expect(cache.getQueryState(keys.card(CARD))?.isInvalidated).toBe(true);
  });

  it("reads the runs of a card anew once its pull request was merged, and no others", () => {
    const cache = new QueryClient();
    const other = keys.run("run_2");
    cache.setQueryData(keys.run("run_1"), { id: "run_1", card_id: CARD });
    cache.setQueryData(other, { id: "run_2", card_id: "card_2" });
    cache.setQueryData(keys.cardRuns(CARD), { items: [] });
    const store = new CacheStore(cache);
    store.spread(event("card.updated", { card: { id: CARD }, changes: ["title"] }));
    expect(cache.getQueryState(keys.run("run_1"))?.isInvalidated).toBe(false);
    store.spread(event("card.updated", { card: { id: CARD }, changes: ["pull_request"] }));
    for (const key of [keys.run("run_1"), keys.cardRuns(CARD)]) expect(cache.getQueryState(key)?.isInvalidated).toBe(true);
    expect(cache.getQueryState(other)?.isInvalidated).toBe(false);
  });

  it("keeps that a card is merged while its next run begins", () => {
    const cache = new QueryClient();
    cache.setQueryData(keys.card(CARD), { id: CARD, run: { id: "run_1", status: "succeeded", pull_request: "merged" } });
    const store = new CacheStore(cache);
    const run = { id: "run_2", status: "queued", result: null };
    store.spread(event("agent.queued", { board_id: "board_1", card_id: CARD, run }));
    expect(cache.getQueryData(keys.card(CARD))).toMatchObject({ run: { id: "run_2", pull_request: "merged" } });
    const result = { pull_request: { number: 2, state: "open" } };
    store.spread(event("agent.completed", { board_id: "board_1", card_id: CARD, run: { ...run, status: "succeeded", result } }));
    expect(cache.getQueryData(keys.card(CARD))).toMatchObject({ run: { id: "run_2", pull_request: "open" } });
  });

  describe("with a board", () => {
    const key = keys.board("board_1");
    const summary = (id: string, revision: number) => ({ id, revision, rank: "1", labels: [], comment_count: 0 });
    const told = (type: string, sequence: number, id: string, revision: number) => ({
      ...event(type, { card: summary(id, revision), changes: [] }),
      sequence,
    });

    function shown() {
      const cache = new QueryClient();
      const queryFn = vi.fn(() => new Promise<never>(() => undefined));
      cache.setQueryDefaults(key, { queryFn });
      cache.setQueryData(key, { board: { sequence: 1, labels: [] }, cards: [summary(CARD, 1)] });
      return { cache, queryFn, store: new CacheStore(cache) };
    }

    it("reads it anew when a change of a card is told that it does not have, and only then", () => {
      const { cache, queryFn, store } = shown();
      store.apply(told("card.moved", 2, CARD, 2));
      expect(queryFn).not.toHaveBeenCalled();
      store.apply(told("card.moved", 3, "card_2", 2));
      expect(cache.getQueryData(key)).toMatchObject({ board: { sequence: 3 }, cards: [{ id: CARD, revision: 2 }] });
      expect(queryFn).toHaveBeenCalledTimes(1);
      store.apply(told("card.moved", 3, "card_2", 2));
      expect(queryFn).toHaveBeenCalledTimes(1);
    });

    it("does not bring back a deleted card whose creation is told late, but one that was restored", () => {
      const { cache, store } = shown();
      const cards = () => cache.getQueryData<{ cards: { id: string }[] }>(key)?.cards.map(({ id }) => id);
      store.apply(told("card.deleted", 2, "card_2", 2));
      store.apply(told("card.created", 3, "card_2", 1));
      expect(cards()).toEqual([CARD]);
      store.apply(told("card.created", 4, "card_2", 3));
      expect(cards()).toEqual([CARD, "card_2"]);
    });
  });

  it("drops a deleted workspace from the lists, and remembers its name for whoever looks at its board", () => {
    const cache = new QueryClient();
    cache.setQueryData(keys.workspaces, []);
    cache.setQueryData(keys.teams, []);
    cache.setQueryData(keys.board("board_w1"), { board: { sequence: 1 }, cards: [] });
    const store = new CacheStore(cache);
    store.spread(event("team.deleted", { team_id: "t1", workspace_id: "w1", name: "Rockets" }));
    expect(cache.getQueryData(keys.gone("board_w1"))).toBe("Rockets");
    for (const key of [keys.workspaces, keys.teams, keys.board("board_w1")]) {
      expect(cache.getQueryState(key)?.isInvalidated).toBe(true);
    }
  });
});
