import { Group, Paper, Skeleton, Stack, Text, UnstyledButton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";

import type { Card, Role, Run } from "@/api/types";
import { elapsed, relativeTime, usd } from "@/app/ui/format";
import { IconChevronRight } from "@/app/ui/icons";
import { AnchorLink } from "@/app/ui/links";
import { useNow } from "@/app/ui/useNow";
import { cardRunsQuery, isOver } from "@/features/runs/api/runs";
import { RunBadge } from "@/features/runs/components/RunBadge";

import classes from "./CardRuns.module.css";

const RunView = lazy(() => import("@/features/runs/components/RunView"));

/** The runs of a card, newest first; one that is under way, or that failed last, is opened. */
export function CardRuns({ card, role }: { card: Card; role: Role }) {
  const runs = useQuery(cardRunsQuery(card.id));
  const [chosen, setChosen] = useState<string | null | undefined>(undefined);
  const items = runs.data?.items ?? [];
  if (items.length === 0) return null;
  const latest = items[0];
  const opened = chosen === undefined && latest && latest.status !== "succeeded" ? latest.id : chosen;
  return (
    <section aria-label="Agent runs">
      <Text component="h3" size="sm" fw={600} mb="xs">
        Agent runs
      </Text>
      <Stack gap="xs">
        {items.map((run) => (
          <Paper key={run.id} withBorder>
            <RunRow
              run={run}
              opened={run.id === opened}
              onToggle={() => setChosen(run.id === opened ? null : run.id)}
            />
            {run.id === opened && (
              <div className={classes.run}>
                <Suspense fallback={<Skeleton height={160} />}>
                  <RunView runId={run.id} role={role} onRetried={(next) => setChosen(next.id)} />
                </Suspense>
              </div>
            )}
          </Paper>
        ))}
      </Stack>
    </section>
  );
}

function RunRow({ run, opened, onToggle }: { run: Run; opened: boolean; onToggle: () => void }) {
  const now = useNow(!isOver(run.status));
  return (
    <Group wrap="nowrap" gap="xs" pr="sm">
      <UnstyledButton className={classes.row ?? ""} aria-expanded={opened} onClick={onToggle}>
        <IconChevronRight size={14} className={opened ? classes.turned : undefined} />
        <RunBadge status={run.status} />
        <Text size="xs" c="dimmed" component="span" truncate>
          Attempt {run.attempt} · {relativeTime(run.created_at, now)} ·{" "}
          {elapsed(run.started_at ?? run.created_at, run.finished_at, now)}
          {isOver(run.status) && ` · ${usd(run.usage.cost_usd)}${run.demo_model ? " notional" : ""}`}
        </Text>
      </UnstyledButton>
      <AnchorLink size="xs" to="/runs/$runId" params={{ runId: run.id }}>
        Open
      </AnchorLink>
    </Group>
  );
}
