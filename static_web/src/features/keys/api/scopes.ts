import { useQuery } from "@tanstack/react-query";

import type { Schemas } from "@/api/types";
import { boardQuery } from "@/features/board/api/board";
import { membersQuery, teamQuery } from "@/features/teams/api/teams";

export type Scope = Schemas["Scope"];

export interface NamedScope {
  scope: Scope;
  /** Such as "The whole team" or the name of a person. */
  name: string;
}

/** Whom a key of a team can be for; the first is the team itself. */
export function useScopes(teamId: string): NamedScope[] {
  const team = useQuery(teamQuery(teamId)).data;
  const members = useQuery(membersQuery(teamId)).data ?? [];
  const board = useQuery({ ...boardQuery(team?.board_id ?? ""), enabled: team !== undefined }).data;
  const found: NamedScope[] = [{ scope: { kind: "team", id: teamId }, name: "The whole team" }];
  if (team?.workspace_id) found.push({ scope: { kind: "workspace", id: team.workspace_id }, name: "The workspace" });
  const agent = board?.board.agents.agent_id;
  if (agent) found.push({ scope: { kind: "agent", id: agent }, name: "The agent of the board" });
  for (const { user_id, name } of members) found.push({ scope: { kind: "person", id: user_id }, name });
  return found;
}

export const sameScope = (one: Scope, other: Scope) => one.kind === other.kind && one.id === other.id;
