import type { ColumnKind } from "@/api/types";

export const KINDS: Record<ColumnKind, { label: string; explanation: string }> = {
  plain: { label: "Plain", explanation: "Cards wait here; nothing happens by itself." },
  start: { label: "Starts an agent", explanation: "A card moved here is given to an agent at once." },
  review: { label: "Review", explanation: "Agents hand cards back here when they are done." },
  done: { label: "Done", explanation: "Work that is finished." },
};

export const KIND_NAMES = Object.keys(KINDS) as ColumnKind[];
