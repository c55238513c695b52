import { Button, Center, Container, Group, Menu, Paper, SimpleGrid, Skeleton, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { Failure } from "@/app/ui/ErrorBoundary";
import { IconChevronDown, IconLayoutKanban, IconPlus, IconUsers } from "@/app/ui/icons";
import { PageHeading } from "@/app/ui/PageHeading";
import { teamsQuery } from "@/features/teams/api/teams";

import { workspacesQuery } from "../api/workspaces";
import { NewTeamModal } from "./NewTeamModal";
import { NewWorkspaceModal } from "./NewWorkspaceModal";
import { TeamCard, WorkspaceCard } from "./PlaceCard";

const REFRESH_MS = 15_000;

export function HomePage() {
  const workspaces = useQuery({ ...workspacesQuery, refetchInterval: REFRESH_MS });
  const teams = useQuery({ ...teamsQuery, refetchInterval: REFRESH_MS });
  const [creating, setCreating] = useState<"workspace" | "team" | null>(null);
  const shown = new Set(workspaces.data?.map((workspace) => workspace.id));
  const otherTeams = teams.data?.filter((team) => team.workspace_id === null || !shown.has(team.workspace_id)) ?? [];
  const loaded = workspaces.data && teams.data;
  const empty = loaded && workspaces.data.length + otherTeams.length === 0;
  const error = workspaces.error ?? teams.error;
  return (
    <Container size="lg" py="xl">
      <PageHeading title="Workspaces" note="A workspace is a team with a Git repository, a board and an agent.">
        {!empty && <CreateButtons onCreate={setCreating} />}
      </PageHeading>
      {error && !loaded && <Failure title="Your workspaces cannot be shown" error={error} />}
      {!loaded && !error && <Skeletons />}
      {empty && <Empty onCreate={setCreating} />}
      <SimpleGrid cols={{ base: 1, xs: 2, md: 3 }} component="ul" p={0} m={0} style={{ listStyle: "none" }}>
        {workspaces.data?.map((workspace) => (
          <WorkspaceCard key={workspace.id} workspace={workspace} />
        ))}
        {otherTeams.map((team) => (
          <TeamCard key={team.id} team={team} />
        ))}
      </SimpleGrid>
      {creating === "workspace" && <NewWorkspaceModal onClose={() => setCreating(null)} />}
      {creating === "team" && <NewTeamModal onClose={() => setCreating(null)} />}
    </Container>
  );
}

type OnCreate = (what: "workspace" | "team") => void;

function CreateButtons({ onCreate }: { onCreate: OnCreate }) {
  return (
    <Group gap={1} wrap="nowrap">
      <Button
        leftSection={<IconPlus />}
        onClick={() => onCreate("workspace")}
        style={{ borderStartEndRadius: 0, borderEndEndRadius: 0 }}
        data-testid="new-workspace"
      >
        New workspace
      </Button>
      <Menu position="bottom-end">
        <Menu.Target>
          <Button px="xs" aria-label="More to create" style={{ borderStartStartRadius: 0, borderEndStartRadius: 0 }}>
            <IconChevronDown size={16} />
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item leftSection={<IconUsers size={16} />} onClick={() => onCreate("team")}>
            New team without a repository
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </Group>
  );
}

function Empty({ onCreate }: { onCreate: OnCreate }) {
  return (
    <Paper withBorder radius="lg" p="xl">
      <Center mih={260}>
        <Stack align="center" maw={420} ta="center">
          <IconLayoutKanban size={44} />
          <Title order={2} size="h3">
            Create your first workspace
          </Title>
          <Text c="dimmed" size="sm">
            You get a Git repository, new or imported, a board, and an agent. Write a card, move it to In Progress, and
            watch the agent work on it.
          </Text>
          <Button size="md" leftSection={<IconPlus />} onClick={() => onCreate("workspace")} data-testid="new-workspace">
            New workspace
          </Button>
          <Button variant="subtle" size="xs" onClick={() => onCreate("team")}>
            or a team without a repository
          </Button>
        </Stack>
      </Center>
    </Paper>
  );
}

function Skeletons() {
  return (
    <SimpleGrid cols={{ base: 1, xs: 2, md: 3 }}>
      {[0, 1, 2].map((number) => (
        <Skeleton key={number} height={132} radius="md" />
      ))}
    </SimpleGrid>
  );
}
