import { queryOptions } from "@tanstack/react-query";

import { api } from "@/api/client";
import { keys } from "@/api/keys";
import type { CreatedModelKey, ModelKey, NewModelKey, Page, Schemas, TeamLimits } from "@/api/types";

export const modelKeysQuery = (teamId: string) =>
  queryOptions({
    queryKey: keys.modelKeys(teamId),
    queryFn: async () => (await api.get<Page<ModelKey>>(`/teams/${teamId}/keys`)).items,
  });

export const createModelKey = (teamId: string, body: NewModelKey) =>
  api.post<CreatedModelKey>(`/teams/${teamId}/keys`, { body });

export const changeModelKey = (teamId: string, id: string, body: Schemas["KeyChanges"]) =>
  api.patch<ModelKey>(`/teams/${teamId}/keys/${id}`, { body });

export const rotateModelKey = (teamId: string, id: string) =>
  api.post<CreatedModelKey>(`/teams/${teamId}/keys/${id}/rotate`, { body: { overlap_hours: 24 } });

export const revokeModelKey = (teamId: string, id: string) => api.delete(`/teams/${teamId}/keys/${id}`);

export const limitsQuery = (teamId: string) =>
  queryOptions({ queryKey: keys.limits(teamId), queryFn: () => api.get<TeamLimits>(`/teams/${teamId}/limits`) });

export const setLimits = (teamId: string, body: TeamLimits) => api.put<TeamLimits>(`/teams/${teamId}/limits`, { body });
