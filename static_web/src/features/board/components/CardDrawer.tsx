/** One card, over its board, under its own address. */
import { ActionIcon, Alert, Drawer, Group, Skeleton, Stack, Tooltip } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";

import { isProblem } from "@/api/problem";
import type { Board, Card } from "@/api/types";
import { mayEdit } from "@/app/permissions";
import { ErrorBoundary, Failure } from "@/app/ui/ErrorBoundary";
import { IconLink, IconTrash } from "@/app/ui/icons";
import { notifyDone } from "@/app/ui/notify";
import { ResultPanel } from "@/features/runs/components/ResultPanel";

import { boardQuery } from "../api/board";
import { cardQuery } from "../api/cards";
import { useDeleteCard } from "../api/useCardMutations";
import { CardActivity } from "./CardActivity";
import { CardBody } from "./CardBody";
import classes from "./CardDrawer.module.css";
import { CardFields } from "./CardFields";
import { CardRuns } from "./CardRuns";
import { CardTitle } from "./CardTitle";
import { Checklist } from "./Checklist";

export default function CardDrawer({ boardId, cardId }: { boardId: string; cardId: string }) {
  const navigate = useNavigate();
  const close = () => void navigate({ to: "/boards/$boardId", params: { boardId } });
  const card = useQuery({ ...cardQuery(cardId), retry: (count, error) => !isProblem(error, 404) && count < 2 });
  const view = useQuery(boardQuery(boardId));
  const gone = card.data !== undefined && view.data?.cards.every(({ id }) => id !== cardId) === true;
  return (
    <Drawer.Root opened onClose={close} position="right" size="min(100%, 46rem)">
      <Drawer.Overlay blur={1} backgroundOpacity={0.25} />
      <Drawer.Content aria-label={card.data ? `Card ${card.data.title}` : "Card"}>
        <Drawer.Header className={classes.header ?? ""}>
          <span className={classes.place}>
            {view.data?.board.columns.find(({ id }) => id === card.data?.column_id)?.name}
          </span>
          <Group gap={4}>
            {card.data && view.data && !gone && <CardActions card={card.data} board={view.data.board} onClose={close} />}
            <Drawer.CloseButton aria-label="Close the card" />
          </Group>
        </Drawer.Header>
        <Drawer.Body>
          <ErrorBoundary region="The card">
            {card.error && !card.data && <Failure title="This card cannot be shown" error={card.error} />}
            {gone && (
              <Alert color="yellow" title="This card was deleted">
                Whoever deleted it can still undo that.
              </Alert>
            )}
            {gone ? null : card.data && view.data ? (
              <CardDetails key={cardId} card={card.data} board={view.data.board} />
            ) : (
              !card.error && <Skeleton height={240} />
            )}
          </ErrorBoundary>
        </Drawer.Body>
      </Drawer.Content>
    </Drawer.Root>
  );
}

function CardDetails({ card, board }: { card: Card; board: Board }) {
  const editable = mayEdit(board.role);
  return (
    <Stack gap="lg">
      <CardTitle card={card} editable={editable} />
      <CardFields card={card} board={board} editable={editable} />
      {card.result && <ResultPanel result={card.result} />}
      <CardRuns card={card} role={board.role} />
      <CardBody card={card} editable={editable} />
      <Checklist card={card} editable={editable} />
      <CardActivity cardId={card.id} editable={editable} />
    </Stack>
  );
}

function CardActions({ card, board, onClose }: { card: Card; board: Board; onClose: () => void }) {
  const remove = useDeleteCard(board.id);
  return (
    <>
      <Tooltip label="Copy link to this card">
        <ActionIcon
          variant="subtle"
          color="gray"
          aria-label="Copy link to this card"
          onClick={() => void navigator.clipboard.writeText(location.href).then(() => notifyDone("Link copied."))}
        >
          <IconLink />
        </ActionIcon>
      </Tooltip>
      {mayEdit(board.role) && (
        <Tooltip label="Delete this card">
          <ActionIcon
            variant="subtle"
            color="red"
            aria-label="Delete this card"
            loading={remove.isPending}
            onClick={() => remove.mutate({ id: card.id, title: card.title }, { onSuccess: onClose })}
          >
            <IconTrash />
          </ActionIcon>
        </Tooltip>
      )}
    </>
  );
}
