/** The event catalogue: what the data of each event type holds. */
import type {
  BoardAgents,
  CardSummary,
  Column,
  Comment,
  PlatformEvent,
  Run,
  Task,
  Usage,
} from "./types";

export interface CardEventData {
  team_id: string;
  board_id: string;
  by: { id: string; name: string; kind: "user" | "agent" };
  card: CardSummary;
  from_column?: string | null;
  changes?: string[] | null;
}

export interface CommentEventData {
  team_id: string;
  board_id: string;
  card_id: string;
  comment: Comment;
}

export interface BoardEventData {
  team_id: string;
  board_id: string;
  columns: Column[];
  agents: BoardAgents;
}

export interface RunEventData {
  team_id: string;
  board_id: string;
  card_id: string;
  run: Run;
}

export interface UsageEventData {
  team_id: string;
  card_id: string;
  run_id: string;
  usage: Usage;
}

export type Progress =
  | { kind: "status"; text: string }
  | { kind: "turn"; turn: number; stop_reason: string | null; usage: Partial<Usage> }
  | { kind: "text"; text: string }
  | { kind: "tool_use"; tool_use_id: string; name: string; input: Record<string, unknown> }
  | {
      kind: "tool_result";
      tool_use_id: string;
      name: string;
      is_error: boolean;
      output: string;
      duration_ms: number | null;
    }
  | { kind: "commit"; sha: string; message: string; files: string[] | null }
  | { kind: "push"; branch: string; sha: string };

export type ProgressEventData = Progress & { team_id: string; board_id: string; card_id: string; run_id: string };

interface Catalogue {
  "card.created": CardEventData;
  "card.updated": CardEventData;
  "card.moved": CardEventData;
  "card.deleted": CardEventData;
  "comment.created": CommentEventData;
  "board.updated": BoardEventData;
  "task.created": { task: Task };
  "task.progress": { task: Task };
  "task.completed": { task: Task };
  "task.failed": { task: Task };
  "team.provisioned": { team_id: string; name: string };
  "workspace.provisioned": { team_id: string; workspace_id: string; name: string };
  "agent.queued": RunEventData;
  "agent.starting": RunEventData;
  "agent.started": RunEventData;
  "agent.progress": ProgressEventData;
  "agent.completed": RunEventData;
  "agent.failed": RunEventData;
  "agent.cancelled": RunEventData;
  "usage.recorded": UsageEventData;
}

export type EventType = keyof Catalogue;

export type KnownEvent = {
  [Type in EventType]: Omit<PlatformEvent, "type" | "data"> & { type: Type; data: Catalogue[Type] };
}[EventType];

const TYPES: Record<EventType, true> = {
  "card.created": true,
  "card.updated": true,
  "card.moved": true,
  "card.deleted": true,
  "comment.created": true,
  "board.updated": true,
  "task.created": true,
  "task.progress": true,
  "task.completed": true,
  "task.failed": true,
  "team.provisioned": true,
  "workspace.provisioned": true,
  "agent.queued": true,
  "agent.starting": true,
  "agent.started": true,
  "agent.progress": true,
  "agent.completed": true,
  "agent.failed": true,
  "agent.cancelled": true,
  "usage.recorded": true,
};

export function isKnown(event: PlatformEvent): event is KnownEvent {
  return event.type in TYPES;
}

/** Reads one message of the wire; null when it is not an event. */
export function parseEvent(message: unknown): PlatformEvent | null {
  if (typeof message !== "object" || message === null) return null;
  const { id, type, time, subject, sequence, from_sequence, data } = message as Record<string, unknown>;
  if (typeof id !== "string" || typeof type !== "string" || typeof subject !== "string") return null;
  const position = Number(sequence);
  if (!Number.isInteger(position)) return null;
  const event: PlatformEvent = { id, type, subject, sequence: position, time: typeof time === "string" ? time : "", data };
  if (from_sequence !== undefined && from_sequence !== null) event.from_sequence = Number(from_sequence);
  return event;
}
