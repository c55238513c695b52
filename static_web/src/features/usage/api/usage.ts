import { queryOptions } from "@tanstack/react-query";

import { api } from "@/api/client";
import { keys } from "@/api/keys";
import type { Dimension, UsageReport } from "@/api/types";

/** `team` is empty for all teams of the caller. */
export interface Question {
  group_by: Dimension;
  from: string;
  to: string;
  team: string;
}

const asQuery = ({ team, ...rest }: Question) => ({ ...rest, team_id: team });

export const usageQuery = (question: Question) =>
  queryOptions({
    queryKey: keys.usage(asQuery(question)),
    queryFn: () => api.get<UsageReport>("/usage", { query: asQuery(question) }),
    placeholderData: (before) => before,
  });

export const usageAsCsv = (question: Question) => api.text("/usage", { query: { ...asQuery(question), format: "csv" } });
