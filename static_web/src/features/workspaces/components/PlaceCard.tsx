/** A workspace or a team on the home page. */
import { Badge, Group, Loader, Paper, Stack, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import type { ProvisioningStatus, Team, Workspace } from "@/api/types";
import { relativeTime } from "@/app/ui/format";
import { IconGitBranch, IconUsers } from "@/app/ui/icons";

import classes from "./PlaceCard.module.css";

export function WorkspaceCard({ workspace }: { workspace: Workspace }) {
  const link =
    workspace.status === "active" ? (
      <Link className={classes.link} to="/boards/$boardId" params={{ boardId: workspace.board_id }}>
        {workspace.name}
      </Link>
    ) : (
      <Link className={classes.link} to="/workspaces/$workspaceId" params={{ workspaceId: workspace.id }}>
        {workspace.name}
      </Link>
    );
  return (
    <Place status={workspace.status} role={workspace.role} link={link} createdAt={workspace.created_at}>
      <IconGitBranch size={15} />
      <Text size="sm" truncate>
        {workspace.repository?.full_name ?? workspace.import_url ?? "Repository is being made"}
      </Text>
    </Place>
  );
}

export function TeamCard({ team }: { team: Team }) {
  const link =
    team.status === "active" ? (
      <Link className={classes.link} to="/boards/$boardId" params={{ boardId: team.board_id }}>
        {team.name}
      </Link>
    ) : (
      <Link className={classes.link} to="/teams/$teamId" params={{ teamId: team.id }}>
        {team.name}
      </Link>
    );
  return (
    <Place status={team.status} role={team.role} link={link} createdAt={team.created_at}>
      <IconUsers size={15} />
      <Text size="sm">Team without a repository</Text>
    </Place>
  );
}

interface PlaceProps {
  status: ProvisioningStatus;
  role: string;
  link: ReactNode;
  createdAt: string;
  children: ReactNode;
}

function Place({ status, role, link, createdAt, children }: PlaceProps) {
  return (
    <Paper component="li" withBorder p="md" className={classes.card ?? ""}>
      <Stack gap="sm" h="100%" justify="space-between">
        <Group justify="space-between" wrap="nowrap" align="flex-start">
          <Text component="span" fw={600} lineClamp={2}>
            {link}
          </Text>
          <Status status={status} />
        </Group>
        <Stack gap={6}>
          <Group gap={6} wrap="nowrap" c="dimmed">
            {children}
          </Group>
          <Text size="xs" c="dimmed">
            Created {relativeTime(createdAt)} · you are {role}
          </Text>
        </Stack>
      </Stack>
    </Paper>
  );
}

const STATUSES: Record<ProvisioningStatus, [label: string, color: string]> = {
  pending: ["Setting up", "brand"],
  active: ["Active", "teal"],
  failed: ["Failed", "red"],
  cancelled: ["Cancelled", "gray"],
  deleting: ["Deleting", "orange"],
};

function Status({ status }: { status: ProvisioningStatus }) {
  const [label, color] = STATUSES[status];
  const changing = status === "pending" || status === "deleting";
  return (
    <Badge
      variant="light"
      color={color}
      style={{ flexShrink: 0 }}
      {...(changing && { leftSection: <Loader size={10} color={color} /> })}
    >
      {label}
    </Badge>
  );
}
