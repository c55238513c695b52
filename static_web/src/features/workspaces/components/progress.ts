import type { Task } from "@/api/types";

/** 0..1: finished steps, and the share done of the one that runs; it falls while steps are undone. */
export function overallProgress({ steps, status }: Pick<Task, "steps" | "status">): number {
  if (status === "succeeded") return 1;
  if (steps.length === 0) return 0;
  const done = steps.map((step) => {
    if (step.status === "succeeded") return 1;
    if (step.status === "undoing") return 1 - (step.progress ?? 0);
    return step.status === "running" ? (step.progress ?? 0) : 0;
  });
  return done.reduce((sum, share) => sum + share, 0) / steps.length;
}
