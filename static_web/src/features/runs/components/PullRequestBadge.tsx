import { Badge } from "@mantine/core";

import type { PullRequestState } from "@/api/types";
import { IconGitMerge, IconGitPullRequest } from "@/app/ui/icons";

const LOOKS: Record<PullRequestState, { text: string; color: string }> = {
  open: { text: "Open", color: "teal" },
  closed: { text: "Closed", color: "red" },
  merged: { text: "Merged", color: "grape" },
};

export function PullRequestBadge({ state }: { state: PullRequestState }) {
  const { text, color } = LOOKS[state];
  const Icon = state === "merged" ? IconGitMerge : IconGitPullRequest;
  return (
    <Badge variant="light" color={color} size="sm" tt="none" style={{ flexShrink: 0 }} leftSection={<Icon size={12} />}>
      {text}
    </Badge>
  );
}
