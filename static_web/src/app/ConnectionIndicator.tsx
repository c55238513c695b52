import { Tooltip } from "@mantine/core";

import { useRealtime, type ConnectionStatus } from "@/realtime/provider";

import classes from "./ConnectionIndicator.module.css";

const WORDS: Record<ConnectionStatus, { text: string; note: string }> = {
  connecting: { text: "Connecting…", note: "Changes by others show up in a moment." },
  live: { text: "Live", note: "Changes by others show up as they happen." },
  reconnecting: { text: "Reconnecting…", note: "Changes by others show up every few seconds meanwhile." },
};

export function ConnectionIndicator() {
  const { status } = useRealtime();
  const { text, note } = WORDS[status];
  return (
    <Tooltip label={note}>
      <span className={classes.indicator} data-status={status} role="status">
        <span className={classes.dot} aria-hidden="true" />
        {text}
      </span>
    </Tooltip>
  );
}
