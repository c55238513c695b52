import { ActionIcon, Alert, Button, Code, Group, Select, Stack, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import type { Invitation, Role } from "@/api/types";
import { CopyButton } from "@/app/ui/CopyButton";
import { plural, relativeTime } from "@/app/ui/format";
import { IconLink, IconTrash } from "@/app/ui/icons";
import { notifyError } from "@/app/ui/notify";

import { createInvitation, deleteInvitation, invitationsQuery } from "../api/teams";
import { rolesFor } from "./roles";

export function Invitations({ teamId, role }: { teamId: string; role: Role }) {
  const cache = useQueryClient();
  const invitations = useQuery(invitationsQuery(teamId));
  const [invited, setInvited] = useState<Role>("member");
  const create = useMutation({
    mutationFn: () => createInvitation(teamId, invited),
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.invitations(teamId) }),
    onError: (error) => notifyError("No link was made", error),
  });
  return (
    <Stack gap="sm">
      <Text fw={600} size="sm">
        Invite by link
      </Text>
      <Group align="flex-end" gap="sm">
        <Select
          size="sm"
          label="Role of whoever joins"
          data={rolesFor(role).filter(({ value }) => value !== "owner")}
          value={invited}
          allowDeselect={false}
          onChange={(value) => setInvited(value ?? "member")}
          flex={1}
        />
        <Button leftSection={<IconLink />} loading={create.isPending} onClick={() => create.mutate()}>
          Create invite link
        </Button>
      </Group>
      {create.data?.url && (
        <Alert color="teal" title="Invite link">
          <Group wrap="nowrap">
            <Code flex={1} style={{ overflowWrap: "anywhere" }} data-testid="invite-link">
              {create.data.url}
            </Code>
            <CopyButton value={create.data.url} label="Copy link" />
          </Group>
          <Text size="xs" c="dimmed" mt={6}>
            Shown only now. Whoever opens it and signs in can join until it expires.
          </Text>
        </Alert>
      )}
      {invitations.data?.map((invitation) => (
        <InvitationRow key={invitation.id} teamId={teamId} invitation={invitation} />
      ))}
    </Stack>
  );
}

function InvitationRow({ teamId, invitation }: { teamId: string; invitation: Invitation }) {
  const cache = useQueryClient();
  const remove = useMutation({
    mutationFn: () => deleteInvitation(teamId, invitation.id),
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.invitations(teamId) }),
    onError: (error) => notifyError("The link was not removed", error),
  });
  return (
    <Group wrap="nowrap" gap="sm">
      <Text size="sm" c="dimmed" flex={1}>
        Link for a {invitation.role}, expires {relativeTime(invitation.expires_at)}, used{" "}
        {plural(invitation.accepted_count, "time")}
      </Text>
      <ActionIcon
        variant="subtle"
        color="gray"
        loading={remove.isPending}
        aria-label="Remove this invite link"
        onClick={() => remove.mutate()}
      >
        <IconTrash size={16} />
      </ActionIcon>
    </Group>
  );
}
