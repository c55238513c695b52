import { QueryClient } from "@tanstack/react-query";

import { isProblem } from "@/api/problem";

const RETRIES = 2;

/** Realtime events keep what is shown up to date, so nothing is read again merely for being looked at. */
export function createQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: 10_000,
        retry: (count, error) => count < RETRIES && (!isProblem(error) || error.status === 0 || error.status >= 500),
        refetchOnWindowFocus: true,
      },
      mutations: { retry: false, networkMode: "always" },
    },
  });
}
