/**
 * The API's types under the names the app uses. Everything imports them from here, so the source of a type
 * (written here, or generated into schema.d.ts) is this file's business only.
 */

export type Role = "owner" | "admin" | "member" | "viewer";

export interface User {
  id: string;
  name: string;
  email: string;
  platform_admin: boolean;
}

export interface Session {
  access_token: string;
  refresh_token: string;
  token_type: string;
  expires_in: number;
  user: User;
}

export interface ApiToken {
  id: string;
  name: string;
  prefix: string;
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
}

export type ApiTokenCreated = ApiToken & { token: string };

export type ProvisioningStatus = "pending" | "active" | "failed";

export interface Team {
  id: string;
  name: string;
  status: ProvisioningStatus;
  role: Role;
  workspace_id: string | null;
  board_id: string | null;
  task_id: string | null;
  created_at: string;
}

export interface Member {
  user_id: string;
  name: string;
  email: string;
  role: Role;
  joined_at: string;
}

export interface Invitation {
  id: string;
  url?: string | null;
  role: Role;
  created_at: string;
  expires_at: string;
  accepted_count: number;
}

export interface InvitationPreview {
  team_id: string;
  team_name: string;
  role: Role;
  expires_at: string;
  already_member: boolean;
}

export interface Repository {
  full_name: string;
  html_url: string;
  clone_url: string;
  default_branch: string;
}

export interface Workspace {
  id: string;
  name: string;
  status: ProvisioningStatus;
  team_id: string;
  board_id: string | null;
  role: Role;
  repository: Repository | null;
  import_url: string | null;
  task_id: string | null;
  error: string | null;
  created_at: string;
}

export type TaskStatus =
  | "pending"
  | "running"
  | "succeeded"
  | "failed"
  | "rolling_back"
  | "rolled_back"
  | "cancelled"
  | "needs_attention";

export interface TaskStep {
  name: string;
  title: string;
  status: "pending" | "running" | "succeeded" | "failed";
  progress: number | null;
  note: string | null;
  error: string | null;
  attempts: number;
  started_at: string | null;
  finished_at: string | null;
}

export interface Task {
  id: string;
  plan: string;
  title: string;
  subject: { kind: "team" | "workspace"; id: string; name: string };
  status: TaskStatus;
  steps: TaskStep[];
  error: string | null;
  created_at: string;
  updated_at: string;
  sequence: number;
}

export type ColumnKind = "plain" | "start" | "review" | "done";

export interface Column {
  id: string;
  name: string;
  kind: ColumnKind;
}

export interface BoardAgents {
  enabled: boolean;
  reason: string | null;
  agent_id: string | null;
  demo_model: boolean;
  isolated: boolean;
}

export interface Board {
  id: string;
  name: string;
  team_id: string;
  workspace_id: string | null;
  role: Role;
  columns: Column[];
  agents: BoardAgents;
  labels: string[];
  repository: Repository | null;
  sequence: number;
}

export type RunStatus = "queued" | "starting" | "running" | "succeeded" | "failed" | "cancelled";

export interface CardSummary {
  id: string;
  board_id: string;
  column_id: string;
  rank: string;
  title: string;
  labels: string[];
  assignee_id: string | null;
  due_date: string | null;
  checklist_done: number;
  checklist_total: number;
  comment_count: number;
  run: { id: string; status: RunStatus } | null;
  etag: string;
  updated_at: string;
}

export interface ChecklistItem {
  id: string;
  text: string;
  done: boolean;
}

export interface RunResult {
  run_id: string;
  branch: string;
  commit: string;
  commits: number;
  additions: number;
  deletions: number;
  files_changed: number;
  html_url: string | null;
}

export type Card = CardSummary & {
  body: string;
  checklist: ChecklistItem[];
  created_at: string;
  created_by: string;
  result: RunResult | null;
};

export interface CardChanges {
  title?: string;
  body?: string;
  labels?: string[];
  assignee_id?: string | null;
  due_date?: string | null;
  checklist?: ChecklistItem[];
}

export interface NewCard extends CardChanges {
  title: string;
  column_id: string | null;
}

export interface CardMove {
  column_id: string;
  /** The card that shall stand above / below; both null: the end of the column. */
  before_id: string | null;
  after_id: string | null;
  expected_column: string | null;
}

export interface BoardView {
  board: Board;
  cards: CardSummary[];
}

export interface Comment {
  id: string;
  card_id: string;
  author_id: string;
  author_name: string;
  author_kind: "user" | "agent";
  body: string;
  created_at: string;
}

export interface HistoryEntry {
  time: string;
  type: string;
  by: string;
  by_kind: "user" | "agent";
  text: string;
}

export interface Usage {
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  cost_usd: number;
}

export interface Run {
  id: string;
  card_id: string;
  board_id: string;
  team_id: string;
  status: RunStatus;
  reason: string | null;
  attempt: number;
  branch: string;
  model: string;
  demo_model: boolean;
  turns: number;
  usage: Usage;
  limits: { turns: number; seconds: number; tokens: number; spend_cap_usd: number };
  result: RunResult | null;
  summary: string | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  started_by: string;
  sequence: number;
}

export interface DiffFile {
  path: string;
  status: string;
  additions: number;
  deletions: number;
  patch: string | null;
}

export interface Diff {
  files: DiffFile[];
}

export interface Page<Item> {
  items: Item[];
}

export interface EventPage {
  items: PlatformEvent[];
  last: number;
}

/** A CloudEvent as it comes over the wire; events.ts narrows its data by type. */
export interface PlatformEvent {
  id: string;
  type: string;
  time: string;
  subject: string;
  sequence: number;
  /** First sequence that a coalesced message stands for. */
  from_sequence?: number;
  data: unknown;
}
