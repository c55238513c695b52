import { MutationCache, QueryClient } from "@tanstack/react-query";

import { isProblem } from "@/api/problem";

const RETRIES = 2;

/** Realtime events keep what is shown up to date, so nothing is read again merely for being looked at. */
export function createQueryClient(): QueryClient {
  const cache: QueryClient = new QueryClient({
    mutationCache: new MutationCache({
      // Somebody may do less than the page offers: their role has changed since it was shown.
      onError: (error) => void (isProblem(error, 403, 404) && cache.invalidateQueries({ queryKey: ["board"] })),
    }),
    defaultOptions: {
      queries: {
        staleTime: 10_000,
        retry: (count, error) => count < RETRIES && (!isProblem(error) || error.status === 0 || error.status >= 500),
        refetchOnWindowFocus: true,
      },
      mutations: { retry: false, networkMode: "always" },
    },
  });
  return cache;
}
