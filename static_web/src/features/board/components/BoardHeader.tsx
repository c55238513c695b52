import { ActionIcon, Anchor, Button, CloseButton, Group, Menu, Select, Text, TextInput, Title } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import type { Board } from "@/api/types";
import { mayDelete, mayEdit, mayManageKeys } from "@/app/permissions";
import { plural } from "@/app/ui/format";
import { IconDots, IconGitBranch, IconKey, IconPlayerStop, IconSearch, IconTag, IconTrash, IconUsers } from "@/app/ui/icons";
import { notifyDone, notifyError } from "@/app/ui/notify";
import { stopAgents } from "@/features/teams/api/teams";
import { MembersModal } from "@/features/teams/components/MembersModal";
import { DeletePlaceModal } from "@/features/workspaces/components/DeletePlaceModal";

import type { Filter } from "../api/filter";
import classes from "./BoardHeader.module.css";

interface Props {
  board: Board;
  filter: Filter;
  onFilter: (filter: Filter) => void;
  shown: number;
  total: number;
}

export function BoardHeader({ board, filter, onFilter, shown, total }: Props) {
  const [showsMembers, setShowsMembers] = useState(false);
  const filtered = filter.text !== "" || filter.label !== null;
  return (
    <Group className={classes.header ?? ""} gap="sm">
      <Group gap="sm" flex={1} miw={200} wrap="nowrap">
        <Title order={1} size="h3" lineClamp={1}>
          {board.name}
        </Title>
        {board.repository && (
          <Anchor
            href={board.repository.html_url}
            target="_blank"
            rel="noreferrer"
            size="sm"
            c="dimmed"
            className={classes.repository ?? ""}
          >
            <IconGitBranch size={15} />
            <span>{board.repository.full_name}</span>
          </Anchor>
        )}
      </Group>
      <Group gap="xs" className={classes.tools ?? ""}>
        <Text size="xs" c="dimmed" aria-live="polite">
          {filtered && `${shown} of ${plural(total, "card")}`}
        </Text>
        <TextInput
          aria-label="Search cards"
          placeholder="Search cards"
          size="sm"
          leftSection={<IconSearch size={16} />}
          rightSection={
            filter.text && (
              <CloseButton size="sm" aria-label="Clear search" onClick={() => onFilter({ ...filter, text: "" })} />
            )
          }
          value={filter.text}
          onChange={(event) => onFilter({ ...filter, text: event.currentTarget.value })}
          className={classes.search ?? ""}
        />
        <Select
          aria-label="Filter by label"
          placeholder="Label"
          size="sm"
          w={130}
          leftSection={<IconTag size={16} />}
          data={board.labels}
          value={filter.label}
          clearable
          searchable
          nothingFoundMessage="No label yet"
          onChange={(label) => onFilter({ ...filter, label })}
        />
        <Button variant="default" size="sm" leftSection={<IconUsers size={16} />} onClick={() => setShowsMembers(true)}>
          Members
        </Button>
        {mayEdit(board.role) && <MoreMenu board={board} />}
      </Group>
      {showsMembers && (
        <MembersModal
          teamId={board.team_id}
          teamName={board.name}
          role={board.role}
          onClose={() => setShowsMembers(false)}
        />
      )}
    </Group>
  );
}

function MoreMenu({ board }: { board: Board }) {
  const [deleting, setDeleting] = useState(false);
  const navigate = useNavigate();
  const kind = board.workspace_id === null ? "team" : "workspace";
  const stop = useMutation({
    mutationFn: () => stopAgents(board.team_id),
    onSuccess: ({ stopped }) => notifyDone(stopped === 0 ? "No agent was running." : `${plural(stopped, "agent")} stopped.`),
    onError: (error) => notifyError("The agents were not stopped", error),
  });
  const showProgress = () =>
    board.workspace_id === null
      ? void navigate({ to: "/teams/$teamId", params: { teamId: board.team_id } })
      : void navigate({ to: "/workspaces/$workspaceId", params: { workspaceId: board.workspace_id } });
  return (
    <>
      <Menu position="bottom-end">
        <Menu.Target>
          <ActionIcon variant="default" size="lg" aria-label="More actions for this board" loading={stop.isPending}>
            <IconDots />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          {mayManageKeys(board.role) && (
            <Menu.Item
              leftSection={<IconKey size={16} />}
              onClick={() => void navigate({ to: "/teams/$teamId/keys", params: { teamId: board.team_id } })}
            >
              Model keys and limits
            </Menu.Item>
          )}
          <Menu.Item color="red" leftSection={<IconPlayerStop size={16} />} onClick={() => stop.mutate()}>
            Stop all agents of this team
          </Menu.Item>
          {mayDelete(board.role) && (
            <Menu.Item color="red" leftSection={<IconTrash size={16} />} onClick={() => setDeleting(true)}>
              Delete this {kind}
            </Menu.Item>
          )}
        </Menu.Dropdown>
      </Menu>
      {deleting && (
        <DeletePlaceModal
          kind={kind}
          place={{ id: board.workspace_id ?? board.team_id, name: board.name }}
          onStarted={showProgress}
          onClose={() => setDeleting(false)}
        />
      )}
    </>
  );
}
