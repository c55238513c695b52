import { queryOptions } from "@tanstack/react-query";

import { api } from "@/api/client";
import { parseEvent } from "@/api/events";
import { keys } from "@/api/keys";
import type { Diff, Page, Run, RunStatus } from "@/api/types";
import { newest, snapshot, type RunLog } from "@/realtime/apply";

export const runQuery = (id: string) =>
  queryOptions({
    queryKey: keys.run(id),
    queryFn: ({ client }) =>
      snapshot(
        () => api.get<Run>(`/runs/${id}`),
        () => client.getQueryData<Run>(keys.run(id)),
        (run) => run.sequence,
      ),
  });

/** The whole log, read in pages. */
export const runEventsQuery = (id: string) =>
  queryOptions({
    queryKey: keys.runEvents(id),
    queryFn: async ({ client }): Promise<RunLog> => {
      const log: RunLog = { events: [], last: 0 };
      for (;;) {
        const page = await api.get<{ items: unknown[]; last: number }>(`/runs/${id}/events`, {
          query: { after: log.last },
        });
        const events = page.items.map(parseEvent).filter((event) => event !== null);
        log.events.push(...events);
        log.last = events.at(-1)?.sequence ?? log.last;
        if (events.length === 0 || log.last >= page.last) break;
      }
      return newest(client.getQueryData<RunLog>(keys.runEvents(id)), log, ({ last }) => last);
    },
  });

export const cardRunsQuery = (cardId: string) =>
  queryOptions({
    queryKey: keys.cardRuns(cardId),
    queryFn: async (): Promise<Page<Run>> => {
      const { items } = await api.get<Page<Run>>(`/cards/${cardId}/runs`);
      return { items: items.sort((one, other) => other.created_at.localeCompare(one.created_at)) };
    },
  });

export const diffQuery = (runId: string) =>
  queryOptions({ queryKey: keys.diff(runId), queryFn: () => api.get<Diff>(`/runs/${runId}/diff`), staleTime: 60_000 });

export const retryRun = (id: string) => api.post<Run>(`/runs/${id}/retry`);
export const stopRun = (id: string) => api.post<Run>(`/runs/${id}/stop`);

const OVER: RunStatus[] = ["succeeded", "failed", "cancelled"];

export const isOver = (status: RunStatus) => OVER.includes(status);
