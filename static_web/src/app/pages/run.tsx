import { useParams } from "@tanstack/react-router";

import { RunPage } from "@/features/runs/components/RunPage";

export function Run() {
  return <RunPage {...useParams({ from: "/signed-in/runs/$runId" })} />;
}
