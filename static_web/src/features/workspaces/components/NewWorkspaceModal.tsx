import { Alert, Button, Group, Modal, Stack, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import { keys } from "@/api/keys";
import { errorText } from "@/api/problem";
import { useRealtime } from "@/realtime/provider";

import { createWorkspace, workspaceQuery } from "../api/workspaces";

export function NewWorkspaceModal({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [importUrl, setImportUrl] = useState("");
  const create = useCreateWorkspace();
  return (
    <Modal opened onClose={onClose} title="New workspace" centered size="md">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          create.mutate({ name: name.trim(), import_url: importUrl.trim() || null });
        }}
      >
        <Stack>
          <TextInput
            label="Name"
            description="The board and the team get this name; the repository a name made from it."
            placeholder="Web shop"
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            maxLength={60}
            required
            data-autofocus
          />
          <TextInput
            label="Import an existing repository"
            description="Optional. Address of a Git repository to copy, with its history. Left empty, a new one is created."
            placeholder="https://github.com/owner/repository.git"
            value={importUrl}
            onChange={(event) => setImportUrl(event.currentTarget.value)}
            maxLength={2000}
          />
          {create.error && (
            <Alert color="red" title="The workspace was not created">
              {errorText(create.error)}
            </Alert>
          )}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={create.isPending} disabled={name.trim() === ""}>
              Create workspace
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

function useCreateWorkspace() {
  const cache = useQueryClient();
  const navigate = useNavigate();
  const { renegotiate } = useRealtime();
  return useMutation({
    mutationFn: createWorkspace,
    onSuccess: async ({ workspace }) => {
      cache.setQueryData(workspaceQuery(workspace.id).queryKey, workspace);
      renegotiate();
      void cache.invalidateQueries({ queryKey: keys.workspaces, exact: true });
      await navigate({ to: "/workspaces/$workspaceId", params: { workspaceId: workspace.id } });
    },
  });
}
