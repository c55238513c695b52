import { Avatar, Badge, Group, Tooltip } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import type { Board, CardSummary } from "@/api/types";
import { day, initials, isOverdue } from "@/app/ui/format";
import { IconCalendar, IconListCheck, IconMessageCircle } from "@/app/ui/icons";
import { PullRequestBadge } from "@/features/runs/components/PullRequestBadge";
import { RunBadge } from "@/features/runs/components/RunBadge";

import classes from "./CardTile.module.css";
import { labelColor } from "./labels";
import { MoveMenu } from "./MoveMenu";
import { useDraggableCard } from "./useDraggableCard";

interface Props {
  board: Board;
  card: CardSummary;
  names: ReadonlyMap<string, string>;
  editable: boolean;
}

export function CardTile({ board, card, names, editable }: Props) {
  const { element, dragged, edge } = useDraggableCard(card, editable);
  return (
    <li className={classes.place} data-edge={edge ?? undefined}>
      <article ref={element} className={classes.card} data-dragged={dragged || undefined} aria-label={card.title}>
        {card.labels.length > 0 && (
          <Group gap={4} mb={6}>
            {card.labels.map((label) => (
              <Badge key={label} size="xs" variant="light" tt="none" color={labelColor(label)}>
                {label}
              </Badge>
            ))}
          </Group>
        )}
        <Link
          className={classes.link}
          to="/boards/$boardId/cards/$cardId"
          params={{ boardId: board.id, cardId: card.id }}
          draggable={false}
        >
          {card.title}
        </Link>
        {editable && <MoveMenu board={board} card={card} className={classes.menu} />}
        <Facts card={card} names={names} />
      </article>
    </li>
  );
}

function Facts({ card, names }: { card: CardSummary; names: ReadonlyMap<string, string> }) {
  const assignee = card.assignee_id === null ? null : (names.get(card.assignee_id) ?? "Somebody");
  const merged = card.run?.pull_request === "merged";
  const late = card.due_date !== null && isOverdue(card.due_date);
  if (!card.run && !card.due_date && card.checklist_total + card.comment_count === 0 && assignee === null) return null;
  return (
    <Group gap={10} mt={8} className={classes.facts ?? ""}>
      {card.run && !(merged && card.run.status === "succeeded") && <RunBadge status={card.run.status} />}
      {merged && <PullRequestBadge state="merged" />}
      {card.due_date && (
        <Fact icon={<IconCalendar size={14} />} label={`${late ? "Overdue" : "Due"} ${day(card.due_date)}`} late={late}>
          {day(card.due_date)}
        </Fact>
      )}
      {card.checklist_total > 0 && (
        <Fact
          icon={<IconListCheck size={14} />}
          label={`${card.checklist_done} of ${card.checklist_total} checklist items done`}
        >
          {card.checklist_done}/{card.checklist_total}
        </Fact>
      )}
      {card.comment_count > 0 && (
        <Fact icon={<IconMessageCircle size={14} />} label={`${card.comment_count} comments`}>
          {card.comment_count}
        </Fact>
      )}
      {assignee !== null && (
        <Tooltip label={assignee}>
          <Avatar size={22} radius="xl" ml="auto" color="initials" name={assignee} aria-label={`Assigned to ${assignee}`}>
            {initials(assignee)}
          </Avatar>
        </Tooltip>
      )}
    </Group>
  );
}

interface FactProps {
  icon: ReactNode;
  label: string;
  late?: boolean;
  children: ReactNode;
}

function Fact({ icon, label, late = false, children }: FactProps) {
  return (
    <span className={classes.fact} role="img" aria-label={label} data-late={late || undefined}>
      {icon}
      {children}
    </span>
  );
}
