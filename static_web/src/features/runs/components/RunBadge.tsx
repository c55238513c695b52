import { Badge } from "@mantine/core";

import type { RunStatus } from "@/api/types";
import { IconRobot } from "@/app/ui/icons";

import { isOver } from "../api/runs";
import classes from "./RunBadge.module.css";

const LOOKS: Record<RunStatus, { text: string; color: string }> = {
  queued: { text: "Agent queued", color: "gray" },
  starting: { text: "Agent starting", color: "brand" },
  running: { text: "Agent running", color: "brand" },
  succeeded: { text: "Agent done", color: "teal" },
  failed: { text: "Agent failed", color: "red" },
  cancelled: { text: "Agent stopped", color: "gray" },
};

export function RunBadge({ status }: { status: RunStatus }) {
  const { text, color } = LOOKS[status];
  return (
    <Badge
      variant="light"
      color={color}
      size="sm"
      tt="none"
      style={{ flexShrink: 0 }}
      leftSection={isOver(status) ? <IconRobot size={12} /> : <span className={classes.pulse} />}
    >
      {text}
    </Badge>
  );
}
