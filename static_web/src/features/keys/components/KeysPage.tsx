import { ActionIcon, Badge, Button, Code, Container, Group, Menu, Paper, Skeleton, Table, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import type { ModelKey } from "@/api/types";
import { ConfirmModal } from "@/app/ui/ConfirmModal";
import { Failure } from "@/app/ui/ErrorBoundary";
import { dateTime, usd } from "@/app/ui/format";
import { IconDots, IconPlus } from "@/app/ui/icons";
import { notifyDone, notifyError } from "@/app/ui/notify";
import { PageHeading } from "@/app/ui/PageHeading";

import { changeModelKey, modelKeysQuery, revokeModelKey } from "../api/keys";
import { sameScope, useScopes } from "../api/scopes";
import { KeyLimitsModal, NewKeyModal, RotateModal } from "./KeyModals";
import { limitsInWords } from "./LimitFields";
import { TeamLimitsForm } from "./TeamLimitsForm";

type Doing = { what: "limits" | "rotate" | "revoke"; modelKey: ModelKey } | null;

export function KeysPage({ teamId }: { teamId: string }) {
  const found = useQuery(modelKeysQuery(teamId));
  const [creating, setCreating] = useState(false);
  const [doing, setDoing] = useState<Doing>(null);
  const close = () => setDoing(null);
  return (
    <Container size="lg" py="xl">
      <PageHeading title="Model keys and limits" note="Keys pay for calls of the model gateway. Agents use the team's own.">
        <Button leftSection={<IconPlus />} onClick={() => setCreating(true)}>
          New key
        </Button>
      </PageHeading>
      {found.isPending && <Skeleton height={120} />}
      {found.error && <Failure title="The keys cannot be shown" error={found.error} />}
      {found.data && <KeyTable teamId={teamId} found={found.data} onDo={setDoing} />}
      {found.data && <TeamLimitsForm teamId={teamId} />}
      {creating && <NewKeyModal teamId={teamId} onClose={() => setCreating(false)} />}
      {doing?.what === "limits" && <KeyLimitsModal teamId={teamId} modelKey={doing.modelKey} onClose={close} />}
      {doing?.what === "rotate" && <RotateModal teamId={teamId} modelKey={doing.modelKey} onClose={close} />}
      {doing?.what === "revoke" && <RevokeModal teamId={teamId} modelKey={doing.modelKey} onClose={close} />}
    </Container>
  );
}

interface TableProps {
  teamId: string;
  found: ModelKey[];
  onDo: (doing: Doing) => void;
}

function KeyTable({ teamId, found, onDo }: TableProps) {
  const scopes = useScopes(teamId);
  const named = ({ scope }: ModelKey) => scopes.find((one) => sameScope(one.scope, scope))?.name ?? scope.id;
  return (
    <Paper withBorder mb="xl">
      <Table.ScrollContainer minWidth={320}>
        <Table verticalSpacing="sm" horizontalSpacing="md">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Name</Table.Th>
              <Table.Th visibleFrom="sm">Begins with</Table.Th>
              <Table.Th visibleFrom="sm">Expires</Table.Th>
              <Table.Th visibleFrom="md">Limits</Table.Th>
              <Table.Th ta="right">Spent</Table.Th>
              <Table.Th aria-label="Actions" />
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {found.map((modelKey) => (
              <Table.Tr key={modelKey.id}>
                <Table.Td>
                  <Group gap={6}>
                    {modelKey.name}
                    {modelKey.disabled && <Badge color="red">Disabled</Badge>}
                    {modelKey.replaced_by && <Badge color="gray">Rotated</Badge>}
                  </Group>
                  {modelKey.scope.kind !== "team" && (
                    <Text size="xs" c="dimmed">
                      For {named(modelKey)}
                    </Text>
                  )}
                  {modelKey.models && (
                    <Text size="xs" c="dimmed">
                      Only {modelKey.models.join(", ")}
                    </Text>
                  )}
                </Table.Td>
                <Table.Td visibleFrom="sm">{modelKey.own ? "Shown to nobody" : <Code>{modelKey.begins_with}…</Code>}</Table.Td>
                <Table.Td visibleFrom="sm">{modelKey.expires_at ? dateTime(modelKey.expires_at) : "Never"}</Table.Td>
                <Table.Td visibleFrom="md">{limitsInWords(modelKey.rates, modelKey.budget)}</Table.Td>
                <Table.Td ta="right">{usd(modelKey.usage.cost_usd)}</Table.Td>
                <Table.Td ta="right">
                  <KeyMenu teamId={teamId} modelKey={modelKey} onDo={onDo} />
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Paper>
  );
}

function KeyMenu({ teamId, modelKey, onDo }: { teamId: string; modelKey: ModelKey; onDo: (doing: Doing) => void }) {
  const cache = useQueryClient();
  const toggle = useMutation({
    mutationFn: () => changeModelKey(teamId, modelKey.id, { disabled: !modelKey.disabled }),
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.modelKeys(teamId) }),
    onError: (error) => notifyError("The key was not changed", error),
  });
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" loading={toggle.isPending} aria-label={`Actions for ${modelKey.name}`}>
          <IconDots />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item onClick={() => onDo({ what: "limits", modelKey })}>Set limits</Menu.Item>
        <Menu.Item onClick={() => toggle.mutate()}>{modelKey.disabled ? "Enable" : "Disable"}</Menu.Item>
        {!modelKey.own && !modelKey.replaced_by && (
          <Menu.Item onClick={() => onDo({ what: "rotate", modelKey })}>Rotate</Menu.Item>
        )}
        {!modelKey.own && (
          <Menu.Item color="red" onClick={() => onDo({ what: "revoke", modelKey })}>
            Revoke
          </Menu.Item>
        )}
      </Menu.Dropdown>
    </Menu>
  );
}

function RevokeModal({ teamId, modelKey, onClose }: { teamId: string; modelKey: ModelKey; onClose: () => void }) {
  const cache = useQueryClient();
  const revoke = useMutation({
    mutationFn: () => revokeModelKey(teamId, modelKey.id),
    onSuccess: async () => {
      onClose();
      notifyDone("The key was revoked.");
      await cache.invalidateQueries({ queryKey: keys.modelKeys(teamId) });
    },
    onError: (error) => notifyError("The key was not revoked", error),
  });
  return (
    <ConfirmModal
      opened
      title={`Revoke ${modelKey.name}?`}
      confirm="Revoke"
      busy={revoke.isPending}
      onConfirm={() => revoke.mutate()}
      onClose={onClose}
    >
      Whoever uses it is refused within five seconds, for good.
    </ConfirmModal>
  );
}
