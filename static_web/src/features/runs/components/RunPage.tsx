import { Container, Paper } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";

import { Failure } from "@/app/ui/ErrorBoundary";
import { AnchorLink } from "@/app/ui/links";
import { PageHeading } from "@/app/ui/PageHeading";
import { cardQuery } from "@/features/board/api/cards";
import { teamQuery } from "@/features/teams/api/teams";

import { runQuery } from "../api/runs";
import RunView from "./RunView";

export function RunPage({ runId }: { runId: string }) {
  const navigate = useNavigate();
  const run = useQuery(runQuery(runId));
  const team = useQuery({ ...teamQuery(run.data?.team_id ?? ""), enabled: run.data !== undefined });
  const card = useQuery({ ...cardQuery(run.data?.card_id ?? ""), enabled: run.data !== undefined, retry: false });
  if (run.error) return <Failure title="This run cannot be shown" error={run.error} />;
  return (
    <Container size="md" py="xl">
      <PageHeading
        title={card.data?.title ?? "Agent run"}
        note={
          run.data && (
            <>
              Agent run {run.data.attempt} ·{" "}
              <AnchorLink
                size="sm"
                to="/boards/$boardId/cards/$cardId"
                params={{ boardId: run.data.board_id, cardId: run.data.card_id }}
              >
                Back to the card
              </AnchorLink>
            </>
          )
        }
      />
      <Paper withBorder p={{ base: "sm", sm: "lg" }} radius="lg" bg="var(--kb-surface)">
        <RunView
          key={runId}
          runId={runId}
          role={team.data?.role ?? "viewer"}
          onRetried={(next) => void navigate({ to: "/runs/$runId", params: { runId: next.id } })}
        />
      </Paper>
    </Container>
  );
}
