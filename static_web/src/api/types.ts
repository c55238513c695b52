/** The API's types under the names the app uses, from the generated schema. */
import type { components } from "./schema";

export type Schemas = components["schemas"];

/** An answer of the API leaves nothing out: what has a default is there all the same. */
export type Whole<Value> = Value extends readonly (infer Item)[]
  ? Whole<Item>[]
  : Value extends object
    ? { [Key in keyof Value]-?: Whole<Exclude<Value[Key], undefined>> }
    : Value;

type Answer<Name extends keyof Schemas> = Whole<Schemas[Name]>;

export type Role = Schemas["Role"];
export type User = Answer<"User">;
export type Session = Answer<"Session">;
export type ApiToken = Answer<"ApiToken">;
export type CreatedApiToken = Answer<"CreatedApiToken">;

export type Team = Answer<"Team">;
export type Member = Answer<"Member">;
export type Invitation = Answer<"Invitation">;
export type InvitationPreview = Answer<"InvitationPreview">;
export type StartedTeam = Answer<"StartedTeam">;

export type Workspace = Answer<"Workspace">;
export type StartedTask = Answer<"StartedTask">;
export type StartedWorkspace = Answer<"StartedWorkspace">;
export type ProvisioningStatus = Workspace["status"];

export type Task = Answer<"Task">;
export type TaskStep = Answer<"Step">;
export type TaskStatus = Schemas["TaskStatus"];

export type Board = Answer<"Board">;
export type BoardView = Answer<"BoardView">;
export type BoardAgents = Answer<"AgentAvailability">;
export type Column = Answer<"Column">;
export type ColumnKind = Schemas["ColumnKind"];

export type CardSummary = Answer<"CardSummary">;
export type Card = Answer<"Card">;
export type ChecklistItem = Answer<"ChecklistItem">;
export type CardChanges = Partial<Pick<Card, "title" | "body" | "labels" | "assignee_id" | "due_date" | "checklist">>;
export type CardMove = Answer<"CardMove">;
export type NewCard = CardChanges & { title: string; column_id: string | null };
export type Comment = Answer<"Comment">;
export type HistoryEntry = Answer<"HistoryEntry">;

export type Run = Answer<"Run">;
export type RunStatus = Schemas["RunStatus"];
export type RunResult = Answer<"RunResult">;
export type PullRequestState = Schemas["PullRequestState"];
export type Usage = Answer<"Usage">;
export type UsageReport = Answer<"UsageReport">;
export type UsageRow = Answer<"UsageRow">;
export type Dimension = Schemas["Dimension"];
export type ModelKey = Answer<"Key">;
export type CreatedModelKey = Answer<"CreatedKey">;
export type NewModelKey = Schemas["NewKey"];
export type TeamLimits = Answer<"TeamLimits">;
export type RateLimits = Answer<"RateLimits">;
export type Budget = Answer<"Budget">;
export type Diff = Answer<"RunDiff">;
export type DiffFile = Answer<"DiffFile">;

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
