/** Says of a page's subject that it was deleted, to whoever had it open. */
import { Center, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { keys } from "@/api/keys";
import { isProblem } from "@/api/problem";

import { IconTrash } from "./icons";
import { ButtonLink } from "./links";

interface Shown {
  data?: { name: string; status?: string } | undefined;
  error: unknown;
}

/** The name of what is gone: an event said so, or it was being deleted and is not found any more. */
export function useGone(boardId: string, shown: Shown): string | null {
  const told = useQuery<string | null>({ queryKey: keys.gone(boardId), queryFn: () => null, enabled: false, gcTime: Infinity });
  const missing = isProblem(shown.error, 404);
  if (missing && shown.data?.status === "deleting") return shown.data.name;
  return told.data ?? null;
}

export function Gone({ name }: { name: string }) {
  return (
    <Center mih="50dvh" p="md">
      <Stack align="center" ta="center" role="status">
        <IconTrash size={40} />
        <Title order={1} size="h3">
          {name} was deleted
        </Title>
        <Text c="dimmed" size="sm">
          Its board and everything on it are gone.
        </Text>
        <ButtonLink to="/" variant="light">
          To your workspaces
        </ButtonLink>
      </Stack>
    </Center>
  );
}
