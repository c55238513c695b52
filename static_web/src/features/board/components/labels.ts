const COLORS = ["blue", "grape", "teal", "orange", "pink", "cyan", "lime", "violet", "red", "yellow"];

/** A label has the same colour everywhere. */
export function labelColor(label: string): string {
  let hash = 0;
  for (const character of label) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  return COLORS[hash % COLORS.length] ?? "blue";
}
