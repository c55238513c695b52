/** The log of a run as a person reads it: tool calls joined with their results, turns as headings. */
import { isKnown, type Progress } from "@/api/events";
import type { PlatformEvent } from "@/api/types";

type ToolUse = Extract<Progress, { kind: "tool_use" }>;
type ToolResult = Extract<Progress, { kind: "tool_result" }>;

export type TimelineItem =
  | (Exclude<Progress, { kind: "tool_use" | "tool_result" }> & { id: string; time: string })
  | { kind: "tool"; id: string; time: string; use: ToolUse; result: ToolResult | null };

export function timeline(events: PlatformEvent[]): TimelineItem[] {
  const items: TimelineItem[] = [];
  const open = new Map<string, Extract<TimelineItem, { kind: "tool" }>>();
  for (const event of events) {
    if (!isKnown(event) || event.type !== "agent.progress") continue;
    const { data: progress, id, time } = event;
    if (progress.kind === "tool_use") {
      const item = { kind: "tool" as const, id, time, use: progress, result: null };
      open.set(progress.tool_use_id, item);
      items.push(item);
    } else if (progress.kind === "tool_result") {
      const item = open.get(progress.tool_use_id);
      if (item) item.result = progress;
    } else if (progress.kind === "turn") {
      items.splice(beginOfTurn(items), 0, { ...progress, id, time });
    } else {
      items.push({ ...progress, id, time });
    }
  }
  return items;
}

/** A turn is counted when its text is out already: its heading goes above that text. */
function beginOfTurn(items: TimelineItem[]): number {
  return items.findLastIndex(({ kind }) => kind !== "text") + 1;
}
