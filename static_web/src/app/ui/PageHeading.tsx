import { Box, Group, Text, Title } from "@mantine/core";
import type { ReactNode } from "react";

export function PageHeading({ title, note, children }: { title: string; note?: ReactNode; children?: ReactNode }) {
  return (
    <Group justify="space-between" align="flex-end" gap="md" mb="lg">
      <Box>
        <Title order={1} size="h2">
          {title}
        </Title>
        {note !== undefined && (
          <Text c="dimmed" size="sm" mt={4}>
            {note}
          </Text>
        )}
      </Box>
      {children}
    </Group>
  );
}
