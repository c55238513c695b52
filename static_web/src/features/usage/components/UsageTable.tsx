import { Anchor, Paper, Table, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";

import type { Dimension, UsageReport } from "@/api/types";
import { compact, day, usd } from "@/app/ui/format";

interface Props {
  report: UsageReport;
  /** Of teams, by id. */
  names: Map<string, string>;
}

export function UsageTable({ report, names }: Props) {
  return (
    <Paper withBorder>
      <Table.ScrollContainer minWidth={320}>
        <Table verticalSpacing="sm" horizontalSpacing="md">
          <Table.Thead>
            <Table.Tr>
              <Table.Th tt="capitalize">{report.group_by}</Table.Th>
              <Table.Th ta="right">Requests</Table.Th>
              <Table.Th ta="right" visibleFrom="sm">
                Failed
              </Table.Th>
              <Table.Th ta="right" visibleFrom="sm">
                Tokens in
              </Table.Th>
              <Table.Th ta="right" visibleFrom="sm">
                From cache
              </Table.Th>
              <Table.Th ta="right" visibleFrom="sm">
                Tokens out
              </Table.Th>
              <Table.Th ta="right">Cost</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {report.rows.map(({ key, usage }) => (
              <Table.Tr key={key}>
                <Table.Td style={{ overflowWrap: "anywhere" }}>
                  <Name by={report.group_by} id={key} names={names} />
                </Table.Td>
                <Table.Td ta="right">{usage.requests}</Table.Td>
                <Table.Td ta="right" visibleFrom="sm">
                  {usage.failed_requests}
                </Table.Td>
                <Table.Td ta="right" visibleFrom="sm">
                  {compact(usage.input_tokens + usage.cache_write_tokens)}
                </Table.Td>
                <Table.Td ta="right" visibleFrom="sm">
                  {compact(usage.cache_read_tokens)}
                </Table.Td>
                <Table.Td ta="right" visibleFrom="sm">
                  {compact(usage.output_tokens)}
                </Table.Td>
                <Table.Td ta="right">
                  {usage.unpriced_requests > 0 && usage.unpriced_requests === usage.requests ? "unknown" : usd(usage.cost_usd)}
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Paper>
  );
}

function Name({ by, id, names }: { by: Dimension; id: string; names: Map<string, string> }) {
  if (id === "") return <Text c="dimmed">None</Text>;
  switch (by) {
    case "day":
      return day(id);
    case "team":
      return names.get(id) ?? id;
    case "run":
      return (
        <Anchor component={Link} to={`/runs/${id}`} size="sm">
          {id}
        </Anchor>
      );
    default:
      return id;
  }
}
