/** The pages of a workspace or team while it is being set up. */
import { Button, Center, Container, Loader, Paper, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";

import type { ProvisioningStatus, Role, Task } from "@/api/types";
import { mayDelete, mayManageTeam } from "@/app/permissions";
import { Failure } from "@/app/ui/ErrorBoundary";
import { Gone, useGone } from "@/app/ui/Gone";
import { IconLayoutKanban, IconTrash } from "@/app/ui/icons";
import { ButtonLink } from "@/app/ui/links";
import { PageHeading } from "@/app/ui/PageHeading";
import { teamQuery } from "@/features/teams/api/teams";

import { isAtWork, isDeletion, taskQuery, workspaceQuery } from "../api/workspaces";
import { DeletePlaceModal, type PlaceKind } from "./DeletePlaceModal";
import { TaskProgress } from "./TaskProgress";

const OPEN_AFTER_MS = 1_500;
const POLL_MS = 5_000;

const pollWhileChanging = (query: { state: { data?: { status: ProvisioningStatus } | undefined; error: unknown } }) =>
  !query.state.error && ["pending", "deleting"].includes(query.state.data?.status ?? "") ? POLL_MS : false;

export function WorkspacePage({ workspaceId }: { workspaceId: string }) {
  const workspace = useQuery({ ...workspaceQuery(workspaceId), refetchInterval: pollWhileChanging });
  const gone = useGone(`board_${workspaceId}`, workspace);
  if (gone) return <Gone name={gone} />;
  if (workspace.error) return <Failure title="This workspace cannot be shown" error={workspace.error} />;
  return <Setup kind="workspace" place={workspace.data} refresh={() => void workspace.refetch()} />;
}

export function TeamPage({ teamId }: { teamId: string }) {
  const team = useQuery({ ...teamQuery(teamId), refetchInterval: pollWhileChanging });
  const gone = useGone(team.data?.board_id ?? `board_${teamId}`, team);
  if (gone) return <Gone name={gone} />;
  if (team.error) return <Failure title="This team cannot be shown" error={team.error} />;
  return <Setup kind="team" place={team.data} refresh={() => void team.refetch()} />;
}

interface Place {
  id: string;
  name: string;
  role: Role;
  status: ProvisioningStatus;
  board_id: string;
  task_id: string | null;
}

function Setup({ kind, place, refresh }: { kind: PlaceKind; place: Place | undefined; refresh: () => void }) {
  const task = useQuery({ ...taskQuery(place?.task_id ?? ""), enabled: Boolean(place?.task_id) });
  const [deleting, setDeleting] = useState(false);
  const finished = task.data !== undefined && !isAtWork(task.data.status);
  useEffect(() => {
    if (finished) refresh();
    // `refresh` is a new function on every render; only the end of the task matters.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [finished]);
  useOpenBoardWhenReady(place);
  if (!place) {
    return (
      <Center mih="50dvh">
        <Loader />
      </Center>
    );
  }
  return (
    <Container size="sm" py="xl">
      <PageHeading title={place.name} note={NOTES[statusOf(place, task.data)](kind)}>
        {place.status === "active" && (
          <ButtonLink
            to="/boards/$boardId"
            params={{ boardId: place.board_id }}
            leftSection={<IconLayoutKanban />}
          >
            Open the board
          </ButtonLink>
        )}
        {place.status !== "deleting" && mayDelete(place.role) && (
          <Button variant="default" c="red" leftSection={<IconTrash size={16} />} onClick={() => setDeleting(true)}>
            Delete
          </Button>
        )}
      </PageHeading>
      {task.error && <Failure title="The progress cannot be shown" error={task.error} />}
      {task.data ? (
        <TaskProgress task={task.data} manages={mayManage(place, task.data)} onChanged={refresh} />
      ) : (
        !task.error && (
          <Paper withBorder p="lg">
            <Text c="dimmed">{place.task_id ? "Waiting for the first step…" : "Nothing is left to do."}</Text>
          </Paper>
        )
      )}
      {deleting && (
        <DeletePlaceModal kind={kind} place={place} onStarted={refresh} onClose={() => setDeleting(false)} />
      )}
    </Container>
  );
}

function mayManage({ role }: Place, task: Task): boolean {
  return isDeletion(task) ? mayDelete(role) : mayManageTeam(role);
}

/** A retried task is at work before the place it sets up says so. */
function statusOf(place: Place, task: Task | undefined): ProvisioningStatus {
  const ended = place.status === "failed" || place.status === "cancelled";
  return ended && task && isAtWork(task.status) && task.status !== "rolling_back" ? "pending" : place.status;
}

const NOTES: Record<ProvisioningStatus, (kind: string) => string> = {
  pending: (kind) => `Your ${kind} is being set up. You may leave this page: the work goes on.`,
  active: (kind) => `Your ${kind} is ready.`,
  failed: (kind) => `Your ${kind} could not be set up.`,
  cancelled: (kind) => `Setting up your ${kind} was cancelled.`,
  deleting: (kind) => `This ${kind} is being deleted. Nothing in it can be changed any more.`,
};

/** Opens the board by itself, but only for somebody who watched the set-up end. */
function useOpenBoardWhenReady(place: Place | undefined) {
  const navigate = useNavigate();
  const watched = useRef(false);
  useEffect(() => {
    if (place?.status === "pending") watched.current = true;
    if (place?.status !== "active" || !watched.current) return;
    const boardId = place.board_id;
    const timer = setTimeout(() => void navigate({ to: "/boards/$boardId", params: { boardId } }), OPEN_AFTER_MS);
    return () => clearTimeout(timer);
  }, [place?.status, place?.board_id, navigate]);
}
