/** Asks before a workspace or a team is deleted: its name has to be typed. */
import { Alert, Button, Group, Modal, Radio, Stack, Text, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import { IconAlertTriangle } from "@/app/ui/icons";
import { notifyError } from "@/app/ui/notify";
import { deleteTeam } from "@/features/teams/api/teams";

import { deleteWorkspace, type RepositoryChoice } from "../api/workspaces";

export type PlaceKind = "workspace" | "team";

interface Props {
  kind: PlaceKind;
  place: { id: string; name: string };
  onStarted: () => void;
  onClose: () => void;
}

export function DeletePlaceModal({ kind, place, onStarted, onClose }: Props) {
  const cache = useQueryClient();
  const [typed, setTyped] = useState("");
  const [repository, setRepository] = useState<RepositoryChoice>("keep");
  const start = useMutation({
    mutationFn: () => (kind === "workspace" ? deleteWorkspace(place.id, repository) : deleteTeam(place.id)),
    onSuccess: () => {
      void cache.invalidateQueries({ queryKey: keys.workspaces });
      void cache.invalidateQueries({ queryKey: keys.teams });
      onStarted();
      onClose();
    },
    onError: (error) => notifyError(`${place.name} is not being deleted`, error),
  });
  const confirmed = typed.trim() === place.name;
  return (
    <Modal opened onClose={onClose} title={`Delete ${place.name}?`} centered>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (confirmed) start.mutate();
        }}
      >
        <Stack>
          <Alert color="red" variant="light" icon={<IconAlertTriangle />} p="xs">
            <Text size="sm">
              The board with its cards, comments and runs goes for good, for every member. Agents at work are stopped.
            </Text>
          </Alert>
          {kind === "workspace" && (
            <Radio.Group
              label="Its Git repository"
              value={repository}
              onChange={(value) => setRepository(value === "delete" ? "delete" : "keep")}
            >
              <Stack gap={6} mt={6}>
                <Radio value="keep" label="Keep it, with everything that was pushed" />
                <Radio value="delete" label="Delete it too" />
              </Stack>
            </Radio.Group>
          )}
          <TextInput
            label={
              <>
                Type <b>{place.name}</b> to confirm
              </>
            }
            aria-label="Name to confirm"
            value={typed}
            onChange={(event) => setTyped(event.currentTarget.value)}
            autoComplete="off"
            data-autofocus
          />
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Keep it
            </Button>
            <Button type="submit" color="red" disabled={!confirmed} loading={start.isPending}>
              Delete {kind}
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
