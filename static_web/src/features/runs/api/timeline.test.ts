import { describe, expect, it } from "vitest";

import type { PlatformEvent } from "@/api/types";

import { timeline } from "./timeline";

function log(...progress: Record<string, unknown>[]): PlatformEvent[] {
  return progress.map((data, index) => ({
    id: `e${index}`,
    type: "agent.progress",
    time: "",
    subject: "run/1",
    sequence: index + 1,
    data,
  }));
}

describe("timeline", () => {
  it("joins each tool call with its own result, whatever comes between", () => {
    const items = timeline(
      log(
        { kind: "tool_use", tool_use_id: "a", name: "bash", input: {} },
        { kind: "tool_use", tool_use_id: "b", name: "view", input: {} },
        { kind: "tool_result", tool_use_id: "b", name: "view", is_error: true, output: "no such file" },
        { kind: "tool_result", tool_use_id: "a", name: "bash", is_error: false, output: "ok" },
      ),
    );
    expect(items.map((item) => item.kind === "tool" && [item.use.name, item.result?.output])).toEqual([
      ["bash", "ok"],
      ["view", "no such file"],
    ]);
  });

  it("shows a tool call that has no result yet", () => {
    expect(timeline(log({ kind: "tool_use", tool_use_id: "a", name: "bash", input: {} }))).toMatchObject([{ result: null }]);
  });

  it("heads a turn's text with the turn", () => {
    const items = timeline(
      log({ kind: "status", text: "Cloning" }, { kind: "text", text: "I look." }, { kind: "turn", turn: 1, usage: null }),
    );
    expect(items.map(({ kind }) => kind)).toEqual(["status", "turn", "text"]);
  });
});
