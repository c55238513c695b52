import { Box, Center, Loader } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { Outlet } from "@tanstack/react-router";
import { useMemo, useState } from "react";

import { isProblem } from "@/api/problem";
import type { BoardView } from "@/api/types";
import { mayEdit } from "@/app/permissions";
import { ErrorBoundary, Failure } from "@/app/ui/ErrorBoundary";
import { Gone, useGone } from "@/app/ui/Gone";
import { membersQuery, teamQuery } from "@/features/teams/api/teams";

import { boardQuery, searchQuery } from "../api/board";
import { matches, type Filter } from "../api/filter";
import { AddColumn } from "./AddColumn";
import { Banners, DeletingBanner } from "./Banners";
import { BoardHeader } from "./BoardHeader";
import classes from "./BoardPage.module.css";
import { ColumnRegion } from "./ColumnRegion";
import { useBoardDragging } from "./useBoardDragging";

export function BoardPage({ boardId }: { boardId: string }) {
  const view = useQuery(boardQuery(boardId));
  const gone = useGone(boardId, { data: view.data?.board, error: view.error });
  if (gone) return <Gone name={gone} />;
  // Whoever is removed from the team must not go on with what was shown until then.
  if (view.error && (!view.data || isProblem(view.error, 404))) {
    return <Failure title="This board cannot be shown" error={view.error} onRetry={() => void view.refetch()} />;
  }
  if (!view.data) {
    return (
      <Center mih="50dvh">
        <Loader />
      </Center>
    );
  }
  return <LoadedBoard key={boardId} view={view.data} />;
}

const NO_FILTER: Filter = { text: "", label: null };

function LoadedBoard({ view }: { view: BoardView }) {
  const { board, cards } = view;
  const [filter, setFilter] = useState(NO_FILTER);
  const shown = useFilteredCards(view, filter);
  const members = useQuery(membersQuery(board.team_id));
  const names = useMemo(() => new Map(members.data?.map(({ user_id, name }) => [user_id, name])), [members.data]);
  const team = useQuery(teamQuery(board.team_id));
  const deleting = team.data?.status === "deleting";
  const editable = mayEdit(board.role) && !deleting;
  const scroller = useBoardDragging(board.id, editable);
  return (
    <Box className={classes.page ?? ""}>
      <title>{`${board.name} · Kanban Platform`}</title>
      <BoardHeader board={board} filter={filter} onFilter={setFilter} shown={shown.length} total={cards.length} />
      {deleting && <DeletingBanner board={board} />}
      <Banners agents={board.agents} />
      <ErrorBoundary region="The board">
        <div className={classes.columns} ref={scroller}>
          {board.columns.map((column) => (
            <ColumnRegion
              key={column.id}
              board={board}
              column={column}
              cards={shown.filter((card) => card.column_id === column.id)}
              total={cards.filter((card) => card.column_id === column.id).length}
              names={names}
              editable={editable}
            />
          ))}
          {editable && <AddColumn board={board} />}
        </div>
      </ErrorBoundary>
      <ErrorBoundary region="The card">
        <Outlet />
      </ErrorBoundary>
    </Box>
  );
}

const SEARCH_AFTER_MS = 250;

function useFilteredCards({ board, cards }: BoardView, filter: Filter) {
  const [text] = useDebouncedValue(filter.text.trim(), SEARCH_AFTER_MS);
  const search = useQuery({ ...searchQuery(board.id, text), enabled: text !== "" && filter.text.trim() !== "" });
  const found = useMemo(() => new Set(search.data?.map(({ id }) => id)), [search.data]);
  return useMemo(() => cards.filter((card) => matches(card, filter, found)), [cards, filter, found]);
}
