import { Anchor, Button, Code, Collapse, Group, Paper, Skeleton, Stack, Text } from "@mantine/core";
import { lazy, type ReactNode, Suspense, useState } from "react";

import type { RunResult } from "@/api/types";
import { CopyButton } from "@/app/ui/CopyButton";
import { plural } from "@/app/ui/format";
import { IconExternalLink, IconFileDiff, IconGitBranch, IconGitCommit, IconGitPullRequest } from "@/app/ui/icons";

import { PullRequestBadge } from "./PullRequestBadge";

const DiffViewer = lazy(() => import("./DiffViewer"));

/** The evidence of a finished run. */
export function ResultPanel({ result }: { result: RunResult }) {
  const [opened, setOpened] = useState(false);
  return (
    <Paper withBorder p="sm" bg="var(--kb-sunken)">
      <Stack gap="xs">
        <Group gap="xs" wrap="nowrap">
          <IconGitBranch size={16} />
          <Code style={{ overflowWrap: "anywhere" }} data-testid="result-branch">
            {result.branch}
          </Code>
          <CopyButton value={result.branch} label="Copy branch name" />
        </Group>
        <Group gap="md">
          <Group gap="xs" wrap="nowrap">
            <IconGitCommit size={16} />
            <Code title={result.commit} data-testid="result-commit">
              {result.commit.slice(0, 10)}
            </Code>
            <Text size="sm" c="dimmed">
              {plural(result.commits, "commit")}
            </Text>
          </Group>
          <Text size="sm">
            {plural(result.files_changed, "file")} changed,{" "}
            <Text span inherit c="teal" fw={600}>
              +{result.additions}
            </Text>{" "}
            <Text span inherit c="red" fw={600}>
              −{result.deletions}
            </Text>
          </Text>
        </Group>
        <PullRequest result={result} />
        <Group gap="sm">
          <Button
            size="xs"
            variant="light"
            leftSection={<IconFileDiff size={16} />}
            aria-expanded={opened}
            onClick={() => setOpened(!opened)}
          >
            {opened ? "Hide diff" : "View diff"}
          </Button>
          {result.html_url && (
            <Outside href={result.html_url}>Open in the repository</Outside>
          )}
        </Group>
        <Collapse expanded={opened}>
          {opened && (
            <Suspense fallback={<Skeleton height={80} />}>
              <DiffViewer runId={result.run_id} />
            </Suspense>
          )}
        </Collapse>
      </Stack>
    </Paper>
  );
}

function PullRequest({ result: { pull_request: found, no_pull_request: reason } }: { result: RunResult }) {
  if (!found && !reason) return null;
  return (
    <Group gap="xs" wrap="nowrap" align={found ? "center" : "flex-start"}>
      <IconGitPullRequest size={16} />
      {found ? (
        <>
          <Outside href={found.html_url}>Pull request #{found.number}</Outside>
          <PullRequestBadge state={found.state} />
        </>
      ) : (
        <Text size="sm" c="dimmed" style={{ overflowWrap: "anywhere" }}>
          No pull request. {reason}
        </Text>
      )}
    </Group>
  );
}

function Outside({ href, children }: { href: string; children: ReactNode }) {
  return (
    <Anchor size="sm" href={href} target="_blank" rel="noreferrer">
      <Group gap={4} component="span">
        {children} <IconExternalLink size={14} />
      </Group>
    </Anchor>
  );
}
