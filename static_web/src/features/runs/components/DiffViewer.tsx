import { Badge, Group, Skeleton, Stack, Text, UnstyledButton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";

import type { DiffFile } from "@/api/types";
import { Failure } from "@/app/ui/ErrorBoundary";
import { IconChevronRight } from "@/app/ui/icons";

import { parsePatch } from "../api/patch";
import { diffQuery } from "../api/runs";
import classes from "./DiffViewer.module.css";

const SIGNS = { added: "+", removed: "−", context: " ", hunk: " ", note: " " };
const OPENED_FILES = 10;
const COLORS: Record<string, string> = { added: "teal", removed: "red", renamed: "yellow" };

export default function DiffViewer({ runId }: { runId: string }) {
  const diff = useQuery(diffQuery(runId));
  if (diff.error) return <Failure title="The diff cannot be shown" error={diff.error} onRetry={() => void diff.refetch()} />;
  if (!diff.data) return <Skeleton height={120} />;
  if (diff.data.files.length === 0) return <Text size="sm">No file differs.</Text>;
  return (
    <Stack gap="sm" role="region" aria-label="Diff">
      {diff.data.files.map((file, index) => (
        <File key={file.path} file={file} initiallyOpened={index < OPENED_FILES} />
      ))}
    </Stack>
  );
}

function File({ file, initiallyOpened }: { file: DiffFile; initiallyOpened: boolean }) {
  const [opened, setOpened] = useState(initiallyOpened);
  return (
    <section className={classes.file} aria-label={file.path}>
      <UnstyledButton className={classes.head ?? ""} aria-expanded={opened} onClick={() => setOpened(!opened)}>
        <IconChevronRight size={14} className={opened ? classes.turned : undefined} />
        <Text size="xs" ff="monospace" fw={600} flex={1} miw={0} style={{ overflowWrap: "anywhere" }}>
          {file.path}
        </Text>
        {file.status !== "modified" && (
          <Badge size="xs" variant="light" color={COLORS[file.status] ?? "gray"}>
            {file.status}
          </Badge>
        )}
        <Group gap={6} wrap="nowrap">
          <Text size="xs" c="teal" fw={600}>
            +{file.additions}
          </Text>
          <Text size="xs" c="red" fw={600}>
            −{file.deletions}
          </Text>
        </Group>
      </UnstyledButton>
      {opened &&
        (file.patch === null ? (
          <Text size="xs" c="dimmed" p="sm">
            Not shown: a binary file, or too large.
          </Text>
        ) : (
          <Patch patch={file.patch} />
        ))}
    </section>
  );
}

function Patch({ patch }: { patch: string }) {
  const lines = useMemo(() => parsePatch(patch), [patch]);
  return (
    <div className={classes.scroll} tabIndex={0} role="group" aria-label="Changed lines">
      <table className={classes.patch}>
        <tbody>
          {lines.map((line, index) => (
            // Lines of a patch never change places.
            <tr key={index} data-kind={line.kind}>
              <td className={classes.number}>{line.before}</td>
              <td className={classes.number}>{line.after}</td>
              <td className={classes.code}>
                <span className={classes.sign}>{SIGNS[line.kind]}</span>
                {line.text}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
