import { QueryClient } from "@tanstack/react-query";
import { describe, expect, it } from "vitest";

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
    store.spread(event("card.moved", { card: { id: CARD, column_id: "progress" } }));
    store.spread(event("agent.queued", { board_id: "board_1", card_id: CARD, run: { id: "run_1", status: "queued" } }));
    expect(cache.getQueryData(keys.card(CARD))).toMatchObject({ run: { id: "run_1", status: "queued" } });
    expect(cache.getQueryState(keys.card(CARD))?.isInvalidated).toBe(true);
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
