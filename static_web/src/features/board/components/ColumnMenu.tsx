import { ActionIcon, Button, Group, Menu, Modal, Radio, Stack, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import type { Board, Column } from "@/api/types";
import { ConfirmModal } from "@/app/ui/ConfirmModal";
import { IconArrowLeft, IconArrowRight, IconDots, IconPencil, IconTrash } from "@/app/ui/icons";
import { notifyError } from "@/app/ui/notify";

import { changeColumn, deleteColumn, type ColumnChange } from "../api/board";
import { KIND_NAMES, KINDS } from "./kinds";

interface Props {
  board: Board;
  column: Column;
  hasCards: boolean;
}

export function ColumnMenu({ board, column, hasCards }: Props) {
  const [dialog, setDialog] = useState<"edit" | "delete" | null>(null);
  const change = useChangeColumn(board.id, column.id);
  const remove = useDeleteColumn(board.id, column, () => setDialog(null));
  const index = board.columns.findIndex(({ id }) => id === column.id);
  return (
    <>
      <Menu position="bottom-end">
        <Menu.Target>
          <ActionIcon variant="subtle" color="gray" ml="auto" aria-label={`Actions for column ${column.name}`}>
            <IconDots />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item leftSection={<IconPencil size={16} />} onClick={() => setDialog("edit")}>
            Rename or change kind
          </Menu.Item>
          <Menu.Item
            leftSection={<IconArrowLeft size={16} />}
            disabled={index === 0}
            onClick={() => change.mutate({ after_id: board.columns[index - 2]?.id ?? null })}
          >
            Move left
          </Menu.Item>
          <Menu.Item
            leftSection={<IconArrowRight size={16} />}
            disabled={index === board.columns.length - 1}
            onClick={() => change.mutate({ after_id: board.columns[index + 1]?.id ?? null })}
          >
            Move right
          </Menu.Item>
          <Menu.Divider />
          <Menu.Item
            color="red"
            leftSection={<IconTrash size={16} />}
            disabled={hasCards}
            onClick={() => setDialog("delete")}
          >
            {hasCards ? "Delete (move its cards first)" : "Delete"}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
      {dialog === "edit" && (
        <EditColumn
          column={column}
          busy={change.isPending}
          onSave={(changes) => change.mutate(changes, { onSuccess: () => setDialog(null) })}
          onClose={() => setDialog(null)}
        />
      )}
      <ConfirmModal
        opened={dialog === "delete"}
        title={`Delete column ${column.name}?`}
        confirm="Delete"
        busy={remove.isPending}
        onConfirm={() => remove.mutate()}
        onClose={() => setDialog(null)}
      >
        It has no cards.
      </ConfirmModal>
    </>
  );
}

interface EditProps {
  column: Column;
  busy: boolean;
  onSave: (changes: ColumnChange) => void;
  onClose: () => void;
}

function EditColumn({ column, busy, onSave, onClose }: EditProps) {
  const [name, setName] = useState(column.name);
  const [kind, setKind] = useState(column.kind);
  return (
    <Modal opened onClose={onClose} title="Column" centered>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          onSave({ name: name.trim(), kind });
        }}
      >
        <Stack>
          <TextInput
            label="Name"
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            maxLength={80}
            required
            data-autofocus
          />
          <Radio.Group
            label="Kind"
            value={kind}
            onChange={(value) => setKind(KIND_NAMES.find((known) => known === value) ?? kind)}
          >
            <Stack gap="sm" mt="xs">
              {KIND_NAMES.map((value) => (
                <Radio key={value} value={value} label={KINDS[value].label} description={KINDS[value].explanation} />
              ))}
            </Stack>
          </Radio.Group>
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={busy} disabled={name.trim() === ""}>
              Save
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

function useChangeColumn(boardId: string, columnId: string) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (changes: ColumnChange) => changeColumn(boardId, columnId, changes),
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.board(boardId) }),
    onError: (error) => notifyError("The column was not changed", error),
  });
}

function useDeleteColumn(boardId: string, column: Column, onDone: () => void) {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: () => deleteColumn(boardId, column.id),
    onSuccess: () => cache.invalidateQueries({ queryKey: keys.board(boardId) }),
    onError: (error) => notifyError(`${column.name} was not deleted`, error),
    onSettled: onDone,
  });
}
