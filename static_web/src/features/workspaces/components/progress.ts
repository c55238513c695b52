import type { Task } from "@/api/types";

/** 0..1: finished steps, and the share done of the one that runs. */
export function overallProgress({ steps, status }: Pick<Task, "steps" | "status">): number {
  if (status === "succeeded") return 1;
  if (steps.length === 0) return 0;
  const done = steps.map((step) => (step.status === "succeeded" ? 1 : (step.progress ?? 0)));
  return done.reduce((sum, share) => sum + share, 0) / steps.length;
}
