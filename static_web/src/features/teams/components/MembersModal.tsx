import { ActionIcon, Avatar, Badge, Box, Divider, Group, Modal, Select, Skeleton, Stack, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { keys } from "@/api/keys";
import type { Member, Role } from "@/api/types";
import { mayManageMembers, mayManageOwners } from "@/app/permissions";
import { Failure } from "@/app/ui/ErrorBoundary";
import { initials } from "@/app/ui/format";
import { IconX } from "@/app/ui/icons";
import { notifyError } from "@/app/ui/notify";

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
  return (
    <Modal opened onClose={onClose} title={`Members of ${teamName}`} size="lg" centered>
      <Stack>
        {members.isPending && <Skeleton height={120} />}
        {members.error && <Failure title="The members cannot be shown" error={members.error} />}
        <Stack gap="xs" component="ul" p={0} m={0} style={{ listStyle: "none" }}>
          {members.data?.map((member) => (
            <MemberRow key={member.user_id} teamId={teamId} member={member} role={role} />
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

function MemberRow({ teamId, member, role }: { teamId: string; member: Member; role: Role }) {
  const cache = useQueryClient();
  const refresh = () => cache.invalidateQueries({ queryKey: keys.members(teamId) });
  const change = useMutation({
    mutationFn: (next: Role) => changeRole(teamId, member.user_id, next),
    onSuccess: refresh,
    onError: (error) => notifyError("The role was not changed", error),
  });
  const remove = useMutation({
    mutationFn: () => removeMember(teamId, member.user_id),
    onSuccess: refresh,
    onError: (error) => notifyError(`${member.name} was not removed`, error),
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
          <ActionIcon
            variant="subtle"
            color="gray"
            loading={remove.isPending}
            aria-label={`Remove ${member.name}`}
            onClick={() => remove.mutate()}
          >
            <IconX />
          </ActionIcon>
        </>
      ) : (
        <Badge variant="light" color="gray">
          {member.role}
        </Badge>
      )}
    </Group>
  );
}
