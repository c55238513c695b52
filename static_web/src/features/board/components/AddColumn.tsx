import { Button, Group, Paper, Stack, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import type { Board } from "@/api/types";
import { IconPlus } from "@/app/ui/icons";
import { notifyError } from "@/app/ui/notify";

import { createColumn } from "../api/board";
import classes from "./AddColumn.module.css";

export function AddColumn({ board }: { board: Board }) {
  const cache = useQueryClient();
  const [opened, setOpened] = useState(false);
  const [name, setName] = useState("");
  const create = useMutation({
    mutationFn: () =>
      createColumn(board.id, { name: name.trim(), kind: "plain", after_id: board.columns.at(-1)?.id ?? null }),
    onSuccess: async () => {
      setName("");
      setOpened(false);
      await cache.invalidateQueries({ queryKey: keys.board(board.id) });
    },
    onError: (error) => notifyError("The column was not added", error),
  });
  if (!opened) {
    return (
      <Button
        variant="subtle"
        color="gray"
        leftSection={<IconPlus size={16} />}
        className={classes.add ?? ""}
        onClick={() => setOpened(true)}
      >
        Add column
      </Button>
    );
  }
  return (
    <Paper
      component="form"
      withBorder
      p="sm"
      className={classes.form ?? ""}
      onSubmit={(event) => {
        event.preventDefault();
        if (name.trim() !== "") create.mutate();
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape") setOpened(false);
      }}
    >
      <Stack gap="xs">
        <TextInput
          aria-label="Name of the new column"
          placeholder="Column name"
          value={name}
          maxLength={80}
          autoFocus
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <Group gap="xs">
          <Button type="submit" size="xs" loading={create.isPending} disabled={name.trim() === ""}>
            Add column
          </Button>
          <Button size="xs" variant="subtle" color="gray" onClick={() => setOpened(false)}>
            Cancel
          </Button>
        </Group>
      </Stack>
    </Paper>
  );
}
