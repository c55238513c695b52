import { describe, expect, it } from "vitest";

import { parsePatch } from "./patch";

describe("parsePatch", () => {
  it("numbers the lines of both sides", () => {
    const lines = parsePatch("@@ -3,3 +3,3 @@ def f():\n same\n-old\n+new\n+more\n\\ No newline at end of file\n");
    expect(lines.map(({ kind, before, after }) => [kind, before, after])).toEqual([
      ["hunk", null, null],
      ["context", 3, 3],
      ["removed", 4, null],
      ["added", null, 4],
      ["added", null, 5],
      ["note", null, null],
    ]);
  });

  it("leaves out file headers, and keeps lines that look like them inside a hunk", () => {
    const lines = parsePatch("--- a/x\n+++ b/x\n@@ -1 +1 @@\n--- gone\n+++ here");
    expect(lines.map(({ kind, text }) => [kind, text])).toEqual([
      ["hunk", "@@ -1 +1 @@"],
      ["removed", "-- gone"],
      ["added", "++ here"],
    ]);
  });
});
