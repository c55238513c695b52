/** A unified diff as lines with their numbers. */

export interface PatchLine {
  kind: "hunk" | "context" | "added" | "removed" | "note";
  text: string;
  before: number | null;
  after: number | null;
}

const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@/;

export function parsePatch(patch: string): PatchLine[] {
  const lines: PatchLine[] = [];
  let before = 0;
  let after = 0;
  let inHunk = false;
  for (const raw of patch.replace(/\n$/, "").split("\n")) {
    const hunk = HUNK.exec(raw);
    if (hunk) {
      before = Number(hunk[1]);
      after = Number(hunk[2]);
      inHunk = true;
      lines.push({ kind: "hunk", text: raw, before: null, after: null });
    } else if (inHunk) {
      const text = raw.slice(1);
      if (raw.startsWith("+")) lines.push({ kind: "added", text, before: null, after: after++ });
      else if (raw.startsWith("-")) lines.push({ kind: "removed", text, before: before++, after: null });
      else if (raw.startsWith("\\")) lines.push({ kind: "note", text, before: null, after: null });
      else lines.push({ kind: "context", text, before: before++, after: after++ });
    }
  }
  return lines;
}
