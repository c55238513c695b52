/** The event catalogue: what the data of each event type holds. */
import type { PlatformEvent, Schemas, Usage, Whole } from "./types";

type Described = Whole<Schemas["Event"]>;

/** What an agent did. The schema lists the fields of all kinds; which of them are there depends on the kind. */
export type Progress =
  | { kind: "status"; text: string }
  | { kind: "turn"; turn: number; stop_reason: string | null; usage: Partial<Usage> | null }
  | { kind: "text"; text: string }
  | { kind: "tool_use"; tool_use_id: string; name: string; input: Record<string, unknown> }
  | {
      kind: "tool_result";
      tool_use_id: string;
      name: string;
      is_error: boolean;
      output: string | null;
      duration_ms: number | null;
    }
  | { kind: "commit"; sha: string; message: string; files: string[] | null }
  | { kind: "push"; branch: string; sha: string };

type ProgressEvent = Omit<Extract<Described, { type: "agent.progress" }>, "data"> & {
  data: Progress & Pick<Whole<Schemas["ProgressData"]>, "team_id" | "board_id" | "card_id" | "run_id">;
};

export type KnownEvent = Exclude<Described, { type: "agent.progress" }> | ProgressEvent;
export type EventType = KnownEvent["type"];

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
  "task.rolled_back": true,
  "task.cancelled": true,
  "team.provisioned": true,
  "workspace.provisioned": true,
  "team.deleted": true,
  "workspace.deleted": true,
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
