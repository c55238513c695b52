import { Alert, Button, Container, Group, Paper, Select, SimpleGrid, Skeleton, Stack, Text } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import type { Dimension, UsageReport } from "@/api/types";
import { Failure } from "@/app/ui/ErrorBoundary";
import { compact, plural, usd } from "@/app/ui/format";
import { IconChartBar } from "@/app/ui/icons";
import { notifyError } from "@/app/ui/notify";
import { PageHeading } from "@/app/ui/PageHeading";
import { teamsQuery } from "@/features/teams/api/teams";
import { workspacesQuery } from "@/features/workspaces/api/workspaces";

import { type Question, usageAsCsv, usageQuery } from "../api/usage";
import { UsageTable } from "./UsageTable";

const DIMENSIONS: { value: Dimension; label: string }[] = [
  { value: "day", label: "Day" },
  { value: "model", label: "Model" },
  { value: "team", label: "Team" },
  { value: "workspace", label: "Workspace" },
  { value: "card", label: "Card" },
  { value: "run", label: "Run" },
  { value: "key", label: "Key" },
];

const SPANS = [
  { value: "1", label: "Today" },
  { value: "7", label: "Last 7 days" },
  { value: "30", label: "Last 30 days" },
  { value: "365", label: "Last 365 days" },
];

function lastDays(days: number): { from: string; to: string } {
  const to = new Date();
  const from = new Date(to.getTime() - (days - 1) * 86_400_000);
  return { from: from.toISOString().slice(0, 10), to: to.toISOString().slice(0, 10) };
}

export function UsagePage() {
  const [by, setBy] = useState<Dimension>("day");
  const [days, setDays] = useState("30");
  const [team, setTeam] = useState("");
  const question: Question = { group_by: by, team, ...lastDays(Number(days)) };
  const report = useQuery(usageQuery(question));
  const places = usePlaces();
  return (
    <Container size="lg" py="xl">
      <PageHeading title="Usage" note="What your teams' agents and keys used of models. Days are in UTC.">
        <Download question={question} disabled={!report.data?.rows.length} />
      </PageHeading>
      <Group mb="lg" gap="sm">
        <Select label="Team" data={[{ value: "", label: "All teams" }, ...places]} value={team} allowDeselect={false} onChange={(value) => setTeam(value ?? "")} />
        <Select label="Days" data={SPANS} value={days} allowDeselect={false} onChange={(value) => setDays(value ?? "30")} />
        <Select
          label="Group by"
          data={DIMENSIONS}
          value={by}
          allowDeselect={false}
          onChange={(value) => setBy(value ?? "day")}
        />
      </Group>
      {report.isPending && <Skeleton height={240} />}
      {report.error && <Failure title="Usage cannot be shown" error={report.error} />}
      {report.data && <Report report={report.data} names={new Map(places.map(({ value, label }) => [value, label]))} />}
    </Container>
  );
}

function usePlaces(): { value: string; label: string }[] {
  const teams = useQuery(teamsQuery);
  const workspaces = useQuery(workspacesQuery);
  const workspaceOf = new Map((workspaces.data ?? []).map((workspace) => [workspace.team_id, workspace.name]));
  return (teams.data ?? []).map(({ id, name }) => ({ value: id, label: workspaceOf.get(id) ?? name }));
}

function Report({ report, names }: { report: UsageReport; names: Map<string, string> }) {
  const { total, outcomes } = report;
  if (report.rows.length === 0) {
    return (
      <Paper withBorder p="xl" ta="center">
        <IconChartBar size={28} />
        <Text mt="xs">Nothing was used in these days.</Text>
        <Text c="dimmed" size="sm">
          Move a card to a column that starts an agent, or call the gateway with a key.
        </Text>
      </Paper>
    );
  }
  return (
    <Stack gap="lg">
      <SimpleGrid cols={{ base: 2, md: 5 }}>
        <Figure name="Cost" value={usd(total.cost_usd)} note={plural(total.requests, "request")} />
        <Figure
          name="Tokens in"
          value={compact(total.input_tokens + total.cache_read_tokens + total.cache_write_tokens)}
          note={`${compact(total.cache_read_tokens)} read from the cache`}
        />
        <Figure name="Tokens out" value={compact(total.output_tokens)} note={plural(outcomes.runs, "run")} />
        <Figure
          name="Per done card"
          value={cost(outcomes.cost_per_done_card_usd)}
          note={`${plural(outcomes.cards_done, "card")} done, ${plural(outcomes.runs_succeeded, "run")} succeeded`}
        />
        <Figure
          name="Per merged pull request"
          value={cost(outcomes.cost_per_merged_pull_request_usd)}
          note={`${outcomes.merged_pull_requests ?? 0} merged`}
        />
      </SimpleGrid>
      {total.unpriced_requests > 0 && (
        <Alert color="yellow">
          {plural(total.unpriced_requests, "request")} asked models without a known price: their cost is not in these figures.
        </Alert>
      )}
      <UsageTable report={report} names={names} />
    </Stack>
  );
}

const cost = (amount: number | null) => (amount === null ? "–" : usd(amount));

function Figure({ name, value, note }: { name: string; value: string; note: string }) {
  return (
    <Paper withBorder p="md">
      <Text size="sm" c="dimmed">
        {name}
      </Text>
      <Text fz={26} fw={650}>
        {value}
      </Text>
      <Text size="xs" c="dimmed">
        {note}
      </Text>
    </Paper>
  );
}

function Download({ question, disabled }: { question: Question; disabled: boolean }) {
  const download = useMutation({
    mutationFn: () => usageAsCsv(question),
    onSuccess: (text) => save(text, `usage-${question.from}-${question.to}-by-${question.group_by}.csv`),
    onError: (error) => notifyError("The usage was not downloaded", error),
  });
  return (
    <Button variant="default" disabled={disabled} loading={download.isPending} onClick={() => download.mutate()}>
      Download CSV
    </Button>
  );
}

function save(text: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
