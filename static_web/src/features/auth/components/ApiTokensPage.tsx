import {
  ActionIcon,
  Alert,
  Button,
  Code,
  Container,
  Group,
  Modal,
  Paper,
  Select,
  Stack,
  Table,
  Text,
  TextInput,
} from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import { errorText } from "@/api/problem";
import type { ApiToken } from "@/api/types";
import { ConfirmModal } from "@/app/ui/ConfirmModal";
import { CopyButton } from "@/app/ui/CopyButton";
import { Failure } from "@/app/ui/ErrorBoundary";
import { dateTime, relativeTime } from "@/app/ui/format";
import { IconKey, IconPlus, IconTrash } from "@/app/ui/icons";
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

const LIFETIMES = [
  { value: "30", label: "30 days" },
  { value: "90", label: "90 days" },
  { value: "365", label: "One year" },
  { value: "never", label: "Never expires" },
];

function NewTokenModal({ onClose }: { onClose: () => void }) {
  const cache = useQueryClient();
  const [name, setName] = useState("");
  const [lifetime, setLifetime] = useState("90");
  const create = useMutation({
    mutationFn: () =>
      createApiToken({ name: name.trim(), expires_in_days: lifetime === "never" ? null : Number(lifetime) }),
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.apiTokens }),
  });
  return (
    <Modal opened onClose={onClose} title="New API token" centered>
      {create.data ? (
        <Stack>
          <Alert color="yellow">Copy the token now: it is not shown again.</Alert>
          <Group wrap="nowrap">
            <Code block flex={1} style={{ overflowWrap: "anywhere", whiteSpace: "normal" }}>
              {create.data.token}
            </Code>
            <CopyButton value={create.data.token} label="Copy token" />
          </Group>
          <Button onClick={onClose}>Done</Button>
        </Stack>
      ) : (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            create.mutate();
          }}
        >
          <Stack>
            <TextInput
              label="Name"
              description="What it is for, so that you know it again."
              value={name}
              onChange={(event) => setName(event.currentTarget.value)}
              maxLength={100}
              required
              data-autofocus
            />
            <Select
              label="Expires after"
              data={LIFETIMES}
              value={lifetime}
              allowDeselect={false}
              onChange={(value) => setLifetime(value ?? "90")}
            />
            {create.error && <Alert color="red">{errorText(create.error)}</Alert>}
            <Button type="submit" loading={create.isPending} disabled={name.trim() === ""}>
              Create token
            </Button>
          </Stack>
        </form>
      )}
    </Modal>
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
