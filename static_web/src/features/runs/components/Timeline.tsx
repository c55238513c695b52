import { Code, Group, Loader, Text } from "@mantine/core";
import { useMemo } from "react";

import type { PlatformEvent } from "@/api/types";
import { dateTime, plural } from "@/app/ui/format";
import { IconFlag, IconGitBranch, IconGitCommit, IconInfoCircle } from "@/app/ui/icons";
import { Markdown } from "@/app/ui/Markdown";

import { timeline, type TimelineItem } from "../api/timeline";
import classes from "./Timeline.module.css";
import { ToolCall } from "./ToolCall";

export function Timeline({ events, running }: { events: PlatformEvent[]; running: boolean }) {
  const items = useMemo(() => timeline(events), [events]);
  return (
    <div role="log" aria-label="Agent activity" aria-live="off">
      <ol className={classes.timeline}>
        {items.map((item) => (
          <li key={item.id} className={classes.item} data-kind={item.kind} title={dateTime(item.time)}>
            <Item item={item} running={running} />
          </li>
        ))}
      </ol>
      {running && (
        <Group gap="xs" c="dimmed" py="xs">
          <Loader size={14} />
          <Text size="sm">{items.length === 0 ? "Waiting for the agent…" : "Working…"}</Text>
        </Group>
      )}
      {!running && items.length === 0 && (
        <Text size="sm" c="dimmed">
          Nothing: it ended before its first step.
        </Text>
      )}
    </div>
  );
}

function Item({ item, running }: { item: TimelineItem; running: boolean }) {
  switch (item.kind) {
    case "tool":
      return <ToolCall use={item.use} result={item.result} running={running} />;
    case "text":
      return <Markdown text={item.text} />;
    case "turn":
      return (
        <Line icon={<IconFlag size={14} />}>
          Turn {item.turn}
          {item.usage?.output_tokens !== undefined && ` · ${plural(item.usage.output_tokens, "token")} out`}
        </Line>
      );
    case "status":
      return <Line icon={<IconInfoCircle size={14} />}>{item.text}</Line>;
    case "commit":
      return (
        <Line icon={<IconGitCommit size={14} />} strong>
          Committed <Code>{item.sha.slice(0, 8)}</Code> {item.message}
        </Line>
      );
    case "push":
      return (
        <Line icon={<IconGitBranch size={14} />} strong>
          Pushed <Code>{item.branch}</Code>
        </Line>
      );
  }
}

function Line({ icon, strong, children }: { icon: React.ReactNode; strong?: boolean; children: React.ReactNode }) {
  return (
    <Group gap={6} wrap="nowrap" align="flex-start" {...(!strong && { c: "dimmed" })} className={classes.line ?? ""}>
      {icon}
      <Text size={strong ? "sm" : "xs"} component="span" style={{ overflowWrap: "anywhere" }}>
        {children}
      </Text>
    </Group>
  );
}
