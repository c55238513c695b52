import { ActionIcon, Button, Code, Container, Paper, Table, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import type { ApiToken } from "@/api/types";
import { ConfirmModal } from "@/app/ui/ConfirmModal";
import { Failure } from "@/app/ui/ErrorBoundary";
import { dateTime, relativeTime } from "@/app/ui/format";
import { IconKey, IconPlus, IconTrash } from "@/app/ui/icons";
import { NewSecretModal } from "@/app/ui/NewSecretModal";
import { notifyDone, notifyError } from "@/app/ui/notify";
import { PageHeading } from "@/app/ui/PageHeading";

import { apiTokensQuery, createApiToken, revokeApiToken } from "../api/auth";

export function ApiTokensPage() {
  const tokens = useQuery(apiTokensQuery);
  const [creating, setCreating] = useState(false);
  const [revoking, setRevoking] = useState<ApiToken | null>(null);
  return (
    <Container size="md" py="xl">
      <PageHeading title="API tokens" note="For scripts and other programs that use the API as you.">
        <Button leftSection={<IconPlus />} onClick={() => setCreating(true)}>
          New token
        </Button>
      </PageHeading>
      {tokens.error && <Failure title="The tokens cannot be shown" error={tokens.error} />}
      {tokens.data?.length === 0 && (
        <Paper withBorder p="xl" ta="center">
          <IconKey size={28} />
          <Text mt="xs">You have no API tokens.</Text>
        </Paper>
      )}
      {tokens.data && tokens.data.length > 0 && <TokenTable tokens={tokens.data} onRevoke={setRevoking} />}
      {creating && <NewTokenModal onClose={() => setCreating(false)} />}
      <RevokeModal token={revoking} onClose={() => setRevoking(null)} />
    </Container>
  );
}

function TokenTable({ tokens, onRevoke }: { tokens: ApiToken[]; onRevoke: (token: ApiToken) => void }) {
  return (
    <Paper withBorder>
      <Table.ScrollContainer minWidth={300}>
        <Table verticalSpacing="sm" horizontalSpacing="md">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Name</Table.Th>
              <Table.Th visibleFrom="sm">Begins with</Table.Th>
              <Table.Th visibleFrom="sm">Last used</Table.Th>
              <Table.Th>Expires</Table.Th>
              <Table.Th aria-label="Actions" />
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {tokens.map((token) => (
              <Table.Tr key={token.id}>
                <Table.Td>{token.name}</Table.Td>
                <Table.Td visibleFrom="sm">
                  <Code>{token.prefix}…</Code>
                </Table.Td>
                <Table.Td visibleFrom="sm">{token.last_used_at ? relativeTime(token.last_used_at) : "Never"}</Table.Td>
                <Table.Td>{token.expires_at ? dateTime(token.expires_at) : "Never"}</Table.Td>
                <Table.Td ta="right">
                  <ActionIcon
                    variant="subtle"
                    color="red"
                    aria-label={`Revoke ${token.name}`}
                    onClick={() => onRevoke(token)}
                  >
                    <IconTrash />
                  </ActionIcon>
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Paper>
  );
}

function NewTokenModal({ onClose }: { onClose: () => void }) {
  const cache = useQueryClient();
  const create = useMutation({
    mutationFn: createApiToken,
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.apiTokens }),
  });
  return (
    <NewSecretModal
      what="token"
      title="New API token"
      made={create.data?.token}
      busy={create.isPending}
      error={create.error}
      onCreate={create.mutate}
      onClose={onClose}
    />
  );
}

function RevokeModal({ token, onClose }: { token: ApiToken | null; onClose: () => void }) {
  const cache = useQueryClient();
  const revoke = useMutation({
    mutationFn: (id: string) => revokeApiToken(id),
    onSuccess: async () => {
      onClose();
      notifyDone("The token was revoked.");
      await cache.invalidateQueries({ queryKey: keys.apiTokens });
    },
    onError: (error) => notifyError("The token was not revoked", error),
  });
  return (
    <ConfirmModal
      opened={token !== null}
      title={`Revoke ${token?.name ?? "token"}?`}
      confirm="Revoke"
      busy={revoke.isPending}
      onConfirm={() => token && revoke.mutate(token.id)}
      onClose={onClose}
    >
      Programs that use it lose their access at once.
    </ConfirmModal>
  );
}
