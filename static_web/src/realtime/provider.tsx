/** Connects the realtime service to the query cache, and polls while there is no connection. */
import { useQueryClient } from "@tanstack/react-query";
import { createContext, use, useCallback, useEffect, useMemo, useState, type ReactNode } from "react";

import { api } from "@/api/client";
import { parseEvent } from "@/api/events";
import type { EventPage } from "@/api/types";

import { RealtimeConnection, type ConnectionStatus } from "./connection";
import { Feed } from "./feed";
import { CacheStore, eventsPath } from "./store";

export type { ConnectionStatus };

const POLL_LIVE_MS = 20_000;
const POLL_DOWN_MS = 3_000;

interface Realtime {
  status: ConnectionStatus;
  /** Connects anew, for the groups of a team that was joined or made just now. */
  renegotiate: () => void;
}

const RealtimeContext = createContext<Realtime>({ status: "connecting", renegotiate: () => undefined });

export function useRealtime(): Realtime {
  return use(RealtimeContext);
}

export function RealtimeProvider({ children }: { children: ReactNode }) {
  const cache = useQueryClient();
  const [status, setStatus] = useState<ConnectionStatus>("connecting");
  const [generation, setGeneration] = useState(0);
  const store = useMemo(() => new CacheStore(cache), [cache]);
  const feed = useMemo(() => new Feed(store, (subject, after) => fetchEvents(store, subject, after)), [store]);

  const catchUp = useCallback(async () => {
    await Promise.all(store.openSubjects().map((subject) => feed.catchUp(subject)));
  }, [store, feed]);

  useEffect(() => {
    const connection = new RealtimeConnection({
      onStatus: (next) => {
        setStatus(next);
        if (next === "live") void catchUp();
      },
      onMessage: (message) => {
        for (const item of Array.isArray(message) ? message : [message]) {
          const event = parseEvent(item);
          if (!event) continue;
          void feed.receive(event);
          store.spread(event);
        }
      },
    });
    connection.open();
    return () => connection.close();
  }, [catchUp, feed, store, generation]);

  useEffect(() => {
    const timer = setInterval(() => void catchUp(), status === "live" ? POLL_LIVE_MS : POLL_DOWN_MS);
    return () => clearInterval(timer);
  }, [status, catchUp]);

  const value = useMemo(() => ({ status, renegotiate: () => setGeneration((number) => number + 1) }), [status]);
  return <RealtimeContext value={value}>{children}</RealtimeContext>;
}

/** Missed events, which change other things than their subject too. */
async function fetchEvents(store: CacheStore, subject: string, after: number): Promise<EventPage> {
  const page = await api.get<{ items: unknown[]; last: number }>(eventsPath(subject), { query: { after } });
  const items = page.items.map(parseEvent).filter((event) => event !== null);
  items.forEach((event) => {
    store.spread(event);
  });
  return { items, last: page.last };
}
