import type { CardSummary } from "@/api/types";

export interface Filter {
  text: string;
  label: string | null;
}

/** Cards whose title or labels hold the text, or that the API found by it. */
export function matches(card: CardSummary, { text, label }: Filter, found: ReadonlySet<string>): boolean {
  if (label !== null && !card.labels.includes(label)) return false;
  const words = text.trim().toLowerCase();
  if (words === "" || found.has(card.id)) return true;
  return [card.title, ...card.labels].some((part) => part.toLowerCase().includes(words));
}
