/** Every key of the query cache: the table of contents of the server state the app holds. */
export const keys = {
  me: ["me"] as const,
  apiTokens: ["api-tokens"] as const,
  workspaces: ["workspaces"] as const,
  workspace: (id: string) => ["workspaces", id] as const,
  teams: ["teams"] as const,
  team: (id: string) => ["teams", id] as const,
  members: (teamId: string) => ["members", teamId] as const,
  invitations: (teamId: string) => ["invitations", teamId] as const,
  invitation: (token: string) => ["invitation", token] as const,
  task: (id: string) => ["task", id] as const,
  /** The name of what was deleted while its board was known. */
  gone: (boardId: string) => ["gone", boardId] as const,
  board: (id: string) => ["board", id] as const,
  search: (boardId: string, query: string) => ["search", boardId, query] as const,
  card: (id: string) => ["card", id] as const,
  comments: (cardId: string) => ["comments", cardId] as const,
  history: (cardId: string) => ["history", cardId] as const,
  cardRuns: (cardId: string) => ["card-runs", cardId] as const,
  run: (id: string) => ["run", id] as const,
  runEvents: (id: string) => ["run-events", id] as const,
  diff: (runId: string) => ["diff", runId] as const,
};
