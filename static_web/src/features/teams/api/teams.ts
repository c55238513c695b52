import { queryOptions } from "@tanstack/react-query";

import { api } from "@/api/client";
import { keys } from "@/api/keys";
import type { Invitation, InvitationPreview, Member, Page, Role, StartedTask, StartedTeam, Team } from "@/api/types";

export const teamsQuery = queryOptions({
  queryKey: keys.teams,
  queryFn: async () => (await api.get<Page<Team>>("/teams")).items,
});

export const teamQuery = (id: string) =>
  queryOptions({ queryKey: keys.team(id), queryFn: () => api.get<Team>(`/teams/${id}`) });

export const createTeam = (name: string) => api.post<StartedTeam>("/teams", { body: { name } });

export const deleteTeam = (id: string) => api.delete<StartedTask>(`/teams/${id}`);

export const membersQuery = (teamId: string) =>
  queryOptions({
    queryKey: keys.members(teamId),
    queryFn: async () => (await api.get<Page<Member>>(`/teams/${teamId}/members`)).items,
    staleTime: 60_000,
  });

export const changeRole = (teamId: string, userId: string, role: Role) =>
  api.patch<Member>(`/teams/${teamId}/members/${userId}`, { body: { role } });

export const removeMember = (teamId: string, userId: string) => api.delete(`/teams/${teamId}/members/${userId}`);

export const invitationsQuery = (teamId: string) =>
  queryOptions({
    queryKey: keys.invitations(teamId),
    queryFn: async () => (await api.get<Page<Invitation>>(`/teams/${teamId}/invitations`)).items,
  });

export const createInvitation = (teamId: string, role: Role) =>
  api.post<Invitation>(`/teams/${teamId}/invitations`, { body: { role, expires_in_days: 7 } });

export const deleteInvitation = (teamId: string, id: string) => api.delete(`/teams/${teamId}/invitations/${id}`);

export const invitationQuery = (token: string) =>
  queryOptions({
    queryKey: keys.invitation(token),
    queryFn: () => api.get<InvitationPreview>(`/invitations/${encodeURIComponent(token)}`),
    retry: false,
  });

export const acceptInvitation = (token: string) =>
  api.post<Team>(`/invitations/${encodeURIComponent(token)}/accept`);

export const stopAgents = (teamId: string) => api.post<{ stopped: number }>(`/teams/${teamId}/stop-agents`);
