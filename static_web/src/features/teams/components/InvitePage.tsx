import { Button, Center, Loader, Paper, Stack, Text, Title } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";

import { keys } from "@/api/keys";
import type { Team } from "@/api/types";
import { Failure } from "@/app/ui/ErrorBoundary";
import { relativeTime } from "@/app/ui/format";
import { IconUsers } from "@/app/ui/icons";
import { ButtonLink } from "@/app/ui/links";
import { notifyDone } from "@/app/ui/notify";
import { useRealtime } from "@/realtime/provider";

import { acceptInvitation, invitationQuery, teamQuery } from "../api/teams";

export function InvitePage({ token }: { token: string }) {
  const invitation = useQuery(invitationQuery(token));
  const join = useJoin(token);
  if (invitation.isPending) {
    return (
      <Center mih="50dvh">
        <Loader />
      </Center>
    );
  }
  if (invitation.error) {
    return (
      <Center mih="50dvh">
        <Stack align="center">
          <Failure title="This invitation cannot be used" error={invitation.error} />
          <ButtonLink to="/" variant="default">
            To your workspaces
          </ButtonLink>
        </Stack>
      </Center>
    );
  }
  const { team_name, role, expires_at, already_member } = invitation.data;
  return (
    <Center mih="60dvh" p="md">
      <Paper withBorder shadow="sm" radius="lg" p="xl" w="100%" maw={440}>
        <Stack align="center" ta="center" gap="md">
          <IconUsers size={36} />
          <Title order={1} size="h3">
            {already_member ? `You are a member of ${team_name}` : `Join ${team_name}`}
          </Title>
          <Text c="dimmed" size="sm">
            {already_member
              ? "There is nothing left to do here."
              : `You are invited as ${role}. The invitation expires ${relativeTime(expires_at)}.`}
          </Text>
          {join.error && <Failure title="You have not joined" error={join.error} />}
          <Button fullWidth size="md" loading={join.isPending} onClick={() => join.mutate(already_member)}>
            {already_member ? "Open the board" : "Join"}
          </Button>
        </Stack>
      </Paper>
    </Center>
  );
}

function useJoin(token: string) {
  const cache = useQueryClient();
  const navigate = useNavigate();
  const { renegotiate } = useRealtime();
  return useMutation({
    mutationFn: async (alreadyMember: boolean): Promise<Team> => {
      if (!alreadyMember) return acceptInvitation(token);
      const { team_id } = await cache.query({ ...invitationQuery(token), staleTime: "static" });
      return cache.query(teamQuery(team_id));
    },
    onSuccess: async (team, alreadyMember) => {
      if (!alreadyMember) {
        renegotiate();
        notifyDone(`You joined ${team.name}.`);
        void cache.invalidateQueries({ queryKey: keys.workspaces });
        void cache.invalidateQueries({ queryKey: keys.teams });
      }
      await navigate({ to: "/boards/$boardId", params: { boardId: team.board_id } });
    },
  });
}
