import { Text, Tooltip } from "@mantine/core";
import type { ReactNode } from "react";

import type { Run } from "@/api/types";
import { compact, elapsed, usd } from "@/app/ui/format";
import { useNow } from "@/app/ui/useNow";

import { isOver } from "../api/runs";
import classes from "./RunFigures.module.css";

export function RunFigures({ run }: { run: Run }) {
  const now = useNow(!isOver(run.status));
  const { usage, limits } = run;
  const input = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
  return (
    <dl className={classes.figures}>
      <Figure name="Model">{run.model}</Figure>
      <Figure name="Branch" wide>
        {run.branch || "–"}
      </Figure>
      <Figure name="Turns" note={`At most ${limits.turns}`}>
        {run.turns}
      </Figure>
      <Figure
        name="Tokens"
        note={`${usage.input_tokens} in, ${usage.cache_read_tokens + usage.cache_write_tokens} through the cache, ${usage.output_tokens} out; at most ${compact(limits.tokens)}`}
      >
        {compact(input)} in · {compact(usage.output_tokens)} out
      </Figure>
      <Figure
        name={run.demo_model ? "Cost (notional)" : "Cost"}
        note={
          run.demo_model
            ? "The demo model is free: this is what the tokens would cost."
            : `The run stops at ${usd(limits.spend_cap_usd)}`
        }
      >
        {usd(usage.cost_usd)}
      </Figure>
      <Figure name="Elapsed">{elapsed(run.started_at ?? run.created_at, run.finished_at, now)}</Figure>
      <Figure name="Attempt">{run.attempt}</Figure>
    </dl>
  );
}

function Figure({ name, note, wide, children }: { name: string; note?: string; wide?: boolean; children: ReactNode }) {
  const value = (
    <Text component="dd" m={0} size="sm" fw={550} className={classes.value ?? ""}>
      {children}
    </Text>
  );
  return (
    <div data-wide={wide}>
      <Text component="dt" size="xs" c="dimmed">
        {name}
      </Text>
      {note === undefined ? value : <Tooltip label={note}>{value}</Tooltip>}
    </div>
  );
}
