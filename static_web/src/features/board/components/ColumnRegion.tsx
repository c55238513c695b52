import { autoScrollForElements } from "@atlaskit/pragmatic-drag-and-drop-auto-scroll/element";
import { combine } from "@atlaskit/pragmatic-drag-and-drop/combine";
import { dropTargetForElements } from "@atlaskit/pragmatic-drag-and-drop/element/adapter";
import { Badge, Group, Text, Tooltip } from "@mantine/core";
import { useEffect, useRef, useState } from "react";

import type { Board, CardSummary, Column } from "@/api/types";
import { IconCircleCheck, IconEye, IconRobot } from "@/app/ui/icons";

import { AddCard } from "./AddCard";
import { CardTile } from "./CardTile";
import { ColumnMenu } from "./ColumnMenu";
import classes from "./ColumnRegion.module.css";
import { KINDS } from "./kinds";
import { columnData, isCard } from "./useBoardDragging";

interface Props {
  board: Board;
  column: Column;
  cards: CardSummary[];
  total: number;
  names: ReadonlyMap<string, string>;
  editable: boolean;
}

const KIND_ICONS = { plain: null, start: IconRobot, review: IconEye, done: IconCircleCheck };

export function ColumnRegion({ board, column, cards, total, names, editable }: Props) {
  const { region, list, isOver } = useDropColumn(column.id, editable);
  const KindIcon = KIND_ICONS[column.kind];
  return (
    <div ref={region} className={classes.slot}>
      <section
        className={classes.column}
        aria-label={column.name}
        data-kind={column.kind}
        data-over={isOver || undefined}
      >
        <Group className={classes.head ?? ""} gap={8} wrap="nowrap">
          {KindIcon && (
            <Tooltip label={KINDS[column.kind].explanation}>
              <span className={classes.kind}>
                <KindIcon size={16} />
              </span>
            </Tooltip>
          )}
          <Text component="h2" size="sm" fw={650} truncate>
            {column.name}
          </Text>
          <Badge variant="default" size="sm" aria-label={`${total} cards`} style={{ flexShrink: 0 }}>
            {total}
          </Badge>
          {editable && <ColumnMenu board={board} column={column} hasCards={total > 0} />}
        </Group>
        {column.kind === "start" && board.agents.enabled && (
          <p className={classes.mark}>Cards moved here start an agent</p>
        )}
        <ul className={classes.cards} ref={list}>
          {cards.map((card) => (
            <CardTile key={card.id} board={board} card={card} names={names} editable={editable} />
          ))}
          {total === 0 && !editable && (
            <Text component="li" size="xs" c="dimmed" p="xs">
              No cards
            </Text>
          )}
        </ul>
        {editable && <AddCard boardId={board.id} column={column} />}
      </section>
    </div>
  );
}

function useDropColumn(columnId: string, editable: boolean) {
  const region = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLUListElement>(null);
  const [isOver, setIsOver] = useState(false);
  useEffect(() => {
    if (!region.current || !list.current || !editable) return;
    return combine(
      dropTargetForElements({
        element: region.current,
        canDrop: ({ source }) => isCard(source.data),
        getData: () => columnData(columnId),
        getIsSticky: () => true,
        onDragEnter: () => setIsOver(true),
        onDragStart: () => setIsOver(true),
        onDragLeave: () => setIsOver(false),
        onDrop: () => setIsOver(false),
      }),
      autoScrollForElements({ element: list.current, canScroll: ({ source }) => isCard(source.data) }),
    );
  }, [columnId, editable]);
  return { region, list, isOver };
}
