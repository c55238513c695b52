import { Alert, Button, Group, Modal, Stack, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import { keys } from "@/api/keys";
import { errorText } from "@/api/problem";
import { createTeam, teamQuery } from "@/features/teams/api/teams";
import { useRealtime } from "@/realtime/provider";

export function NewTeamModal({ onClose }: { onClose: () => void }) {
  const cache = useQueryClient();
  const navigate = useNavigate();
  const { renegotiate } = useRealtime();
  const [name, setName] = useState("");
  const create = useMutation({
    mutationFn: () => createTeam(name.trim()),
    onSuccess: async ({ team }) => {
      cache.setQueryData(teamQuery(team.id).queryKey, team);
      renegotiate();
      void cache.invalidateQueries({ queryKey: keys.teams, exact: true });
      await navigate({ to: "/teams/$teamId", params: { teamId: team.id } });
    },
  });
  return (
    <Modal opened onClose={onClose} title="New team" centered size="md">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          create.mutate();
        }}
      >
        <Stack>
          <TextInput
            label="Name"
            description="A team has a board to plan on. Agents need a repository: create a workspace for them."
            placeholder="Design"
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            maxLength={80}
            required
            data-autofocus
          />
          {create.error && (
            <Alert color="red" title="The team was not created">
              {errorText(create.error)}
            </Alert>
          )}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={create.isPending} disabled={name.trim() === ""}>
              Create team
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
