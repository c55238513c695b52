import { ActionIcon, Avatar, Badge, Box, Button, Divider, Group, Modal, Select, Skeleton, Stack, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import { keys } from "@/api/keys";
import type { Member, Role } from "@/api/types";
import { mayManageMembers, mayManageOwners } from "@/app/permissions";
import { ConfirmModal } from "@/app/ui/ConfirmModal";
import { Failure } from "@/app/ui/ErrorBoundary";
import { initials } from "@/app/ui/format";
import { IconX } from "@/app/ui/icons";
import { notifyDone, notifyError } from "@/app/ui/notify";
import { meQuery } from "@/features/auth/api/auth";

import { changeRole, membersQuery, removeMember } from "../api/teams";
import { Invitations } from "./Invitations";
import { rolesFor } from "./roles";

interface Props {
  teamId: string;
  teamName: string;
  role: Role;
  onClose: () => void;
}

export function MembersModal({ teamId, teamName, role, onClose }: Props) {
  const members = useQuery(membersQuery(teamId));
  const me = useQuery(meQuery);
  return (
    <Modal opened onClose={onClose} title={`Members of ${teamName}`} size="lg" centered>
      <Stack>
        {members.isPending && <Skeleton height={120} />}
        {members.error && <Failure title="The members cannot be shown" error={members.error} />}
        <Stack gap="xs" component="ul" p={0} m={0} style={{ listStyle: "none" }}>
          {members.data?.map((member) => (
            <MemberRow
              key={member.user_id}
              teamId={teamId}
              teamName={teamName}
              member={member}
              role={role}
              self={member.user_id === me.data?.id}
            />
          ))}
        </Stack>
        {mayManageMembers(role) && (
          <>
            <Divider />
            <Invitations teamId={teamId} role={role} />
          </>
        )}
      </Stack>
    </Modal>
  );
}

interface RowProps {
  teamId: string;
  teamName: string;
  member: Member;
  role: Role;
  self: boolean;
}

function MemberRow({ teamId, teamName, member, role, self }: RowProps) {
  const cache = useQueryClient();
  const refresh = () => cache.invalidateQueries({ queryKey: keys.members(teamId) });
  const change = useMutation({
    mutationFn: (next: Role) => changeRole(teamId, member.user_id, next),
    onSuccess: refresh,
    onError: (error) => notifyError("The role was not changed", error),
  });
  const editable = mayManageMembers(role) && (member.role !== "owner" || mayManageOwners(role));
  return (
    <Group component="li" wrap="nowrap" gap="sm">
      <Avatar radius="xl" size={34} color="initials" name={member.name}>
        {initials(member.name)}
      </Avatar>
      <Box flex={1} miw={0}>
        <Text size="sm" fw={550} truncate>
          {member.name}
        </Text>
        <Text size="xs" c="dimmed" truncate>
          {member.email}
        </Text>
      </Box>
      {editable ? (
        <>
          <Select
            size="xs"
            w={110}
            aria-label={`Role of ${member.name}`}
            data={rolesFor(role)}
            value={member.role}
            allowDeselect={false}
            disabled={change.isPending}
            comboboxProps={{ withinPortal: true }}
            onChange={(next) => next && change.mutate(next)}
          />
          {!self && <Remove teamId={teamId} teamName={teamName} member={member} />}
        </>
      ) : (
        <Badge variant="light" color="gray">
          {member.role}
        </Badge>
      )}
      {self && <Leave teamId={teamId} teamName={teamName} member={member} />}
    </Group>
  );
}

interface EndProps {
  teamId: string;
  teamName: string;
  member: Member;
}

function Remove({ teamId, teamName, member }: EndProps) {
  const cache = useQueryClient();
  const [asking, setAsking] = useState(false);
  const remove = useMutation({
    mutationFn: () => removeMember(teamId, member.user_id),
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.members(teamId) }),
    onError: (error) => notifyError(`${member.name} was not removed`, error),
    onSettled: () => setAsking(false),
  });
  return (
    <>
      <ActionIcon variant="subtle" color="gray" aria-label={`Remove ${member.name}`} onClick={() => setAsking(true)}>
        <IconX />
      </ActionIcon>
      <ConfirmModal
        opened={asking}
        title={`Remove ${member.name}?`}
        confirm="Remove"
        busy={remove.isPending}
        onConfirm={() => remove.mutate()}
        onClose={() => setAsking(false)}
      >
        {member.name} no longer sees {teamName}, until somebody invites them again.
      </ConfirmModal>
    </>
  );
}

function Leave({ teamId, teamName, member }: EndProps) {
  const cache = useQueryClient();
  const navigate = useNavigate();
  const [asking, setAsking] = useState(false);
  const leave = useMutation({
    mutationFn: () => removeMember(teamId, member.user_id),
    onSuccess: async () => {
      await navigate({ to: "/" });
      notifyDone(`You left ${teamName}.`);
      void cache.invalidateQueries({ queryKey: keys.workspaces });
      void cache.invalidateQueries({ queryKey: keys.teams });
    },
    onError: (error) => notifyError(`You have not left ${teamName}`, error),
    onSettled: () => setAsking(false),
  });
  return (
    <>
      <Button size="compact-sm" variant="subtle" color="gray" onClick={() => setAsking(true)}>
        Leave
      </Button>
      <ConfirmModal
        opened={asking}
        title={`Leave ${teamName}?`}
        confirm="Leave"
        busy={leave.isPending}
        onConfirm={() => leave.mutate()}
        onClose={() => setAsking(false)}
      >
        You no longer see the board, until somebody invites you again.
      </ConfirmModal>
    </>
  );
}
