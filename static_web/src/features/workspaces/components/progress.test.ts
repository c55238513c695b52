import { describe, expect, it } from "vitest";

import type { TaskStep } from "@/api/types";

import { overallProgress } from "./progress";

function steps(...statuses: [TaskStep["status"], number | null][]): TaskStep[] {
  return statuses.map(([status, progress]) => ({
    name: status,
    title: status,
    status,
    progress,
    note: null,
    error: null,
    attempts: 0,
    started_at: null,
    finished_at: null,
  }));
}

describe("overallProgress", () => {
  it("grows with the step that runs", () => {
    expect(overallProgress({ status: "running", steps: steps(["succeeded", null], ["running", 0.5]) })).toBe(0.75);
  });

  it("falls while steps are undone, down to nothing", () => {
    expect(overallProgress({ status: "rolling_back", steps: steps(["succeeded", null], ["undoing", 0.5]) })).toBe(0.75);
    expect(overallProgress({ status: "cancelled", steps: steps(["undone", null], ["undone", 0.5]) })).toBe(0);
  });
});
