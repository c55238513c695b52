import { describe, expect, it } from "vitest";

import type { EventPage, PlatformEvent } from "@/api/types";

import { Feed, type SubjectStore } from "./feed";

const SUBJECT = "run/1";

function event(sequence: number, from?: number): PlatformEvent {
  const plain = { id: `e${sequence}`, type: "agent.progress", time: "", subject: SUBJECT, sequence, data: {} };
  return from === undefined ? plain : { ...plain, from_sequence: from };
}

class Log implements SubjectStore {
  applied: number[] = [];
  reloads = 0;
  constructor(public at: number | null) {}
  cursor(): number | null {
    return this.at;
  }
  apply({ sequence }: PlatformEvent): void {
    if (this.at === null || sequence <= this.at) return;
    this.applied.push(sequence);
    this.at = sequence;
  }
  reload(): void {
    this.reloads += 1;
  }
}

/** A server that keeps events 1..last and answers at most two at a time. */
const server = (last: number, asked: number[] = []) => {
  return (_: string, after: number): Promise<EventPage> => {
    asked.push(after);
    const items = Array.from({ length: Math.max(0, last - after) }, (__, index) => event(after + index + 1));
    return Promise.resolve({ items: items.slice(0, 2), last });
  };
};

describe("Feed", () => {
  it("applies events that follow each other without asking the server", async () => {
    const log = new Log(4);
    const asked: number[] = [];
    const feed = new Feed(log, server(6, asked));
    await Promise.all([feed.receive(event(5)), feed.receive(event(6))]);
    expect(log.applied).toEqual([5, 6]);
    expect(asked).toEqual([]);
  });

  it("fetches what is missing before an event that is ahead, page by page", async () => {
    const log = new Log(1);
    const asked: number[] = [];
    await new Feed(log, server(6, asked)).receive(event(6));
    expect(log.applied).toEqual([2, 3, 4, 5, 6]);
    expect(asked).toEqual([1, 3, 5]);
  });

  it("keeps the order when events arrive while a gap is being filled", async () => {
    const log = new Log(1);
    const feed = new Feed(log, server(5));
    await Promise.all([feed.receive(event(5)), feed.receive(event(6)), feed.receive(event(3))]);
    expect(log.applied).toEqual([2, 3, 4, 5, 6]);
  });

  it("takes a coalesced message for the events it stands for", async () => {
    const log = new Log(1);
    const asked: number[] = [];
    await new Feed(log, server(9, asked)).receive(event(4, 2));
    expect(log.applied).toEqual([4]);
    expect(asked).toEqual([]);
  });

  it("leaves subjects alone that nobody looks at", async () => {
    const log = new Log(null);
    const asked: number[] = [];
    const feed = new Feed(log, server(3, asked));
    await feed.receive(event(3));
    await feed.catchUp(SUBJECT);
    expect(log.applied).toEqual([]);
    expect(asked).toEqual([]);
  });

  it("catches up after a lost connection", async () => {
    const log = new Log(0);
    await new Feed(log, server(5)).catchUp(SUBJECT);
    expect(log.applied).toEqual([1, 2, 3, 4, 5]);
  });

  it("reads the whole state anew when the missing events cannot be had, and goes on afterwards", async () => {
    const log = new Log(1);
    let down = true;
    const feed = new Feed(log, (subject, after) =>
      down ? Promise.reject(new Error("down")) : server(4)(subject, after),
    );
    await feed.receive(event(4));
    expect(log.reloads).toBe(1);
    expect(log.applied).toEqual([]);
    down = false;
    await feed.receive(event(4));
    expect(log.applied).toEqual([2, 3, 4]);
  });

  it("reads the whole state anew when the server claims events that it does not give", async () => {
    const log = new Log(1);
    await new Feed(log, () => Promise.resolve({ items: [], last: 9 })).catchUp(SUBJECT);
    expect(log.reloads).toBe(1);
  });
});
