/** The query cache as the place where subjects keep their state. */
import type { Query, QueryClient } from "@tanstack/react-query";

import { isKnown, type KnownEvent } from "@/api/events";
import { keys } from "@/api/keys";
import type { BoardView, Card, Comment, Page, PlatformEvent, Run, Task } from "@/api/types";

import { applyRun, applyToBoard, applyToRun, applyToRunLog, applyToTask, badge, hasCard, type RunLog } from "./apply";
import type { SubjectStore } from "./feed";

export class CacheStore implements SubjectStore {
  /** Revisions of cards at their deletion, for what is told late. */
  private readonly gone = new Map<string, number>();

  constructor(private readonly cache: QueryClient) {}

  cursor(subject: string): number | null {
    const [kind, id] = split(subject);
    if (kind === "board") return this.cache.getQueryData<BoardView>(keys.board(id))?.board.sequence ?? null;
    if (kind === "task") return this.cache.getQueryData<Task>(keys.task(id))?.sequence ?? null;
    if (kind !== "run") return null;
    const sequences = [this.cache.getQueryData<Run>(keys.run(id))?.sequence, this.cache.getQueryData<RunLog>(keys.runEvents(id))?.last];
    const known = sequences.filter((sequence) => sequence !== undefined);
    return known.length > 0 ? Math.min(...known) : null;
  }

  apply(event: PlatformEvent): void {
    const [kind, id] = split(event.subject);
    if (kind === "board") this.applyToBoard(id, event);
    if (kind === "task") this.change<Task>(keys.task(id), (task) => applyToTask(task, event));
    if (kind === "run") {
      this.change<Run>(keys.run(id), (run) => applyToRun(run, event));
      this.change<RunLog>(keys.runEvents(id), (log) => applyToRunLog(log, event));
    }
  }

  reload(subject: string): void {
    const [kind, id] = split(subject);
    if (kind === "board") void this.cache.invalidateQueries({ queryKey: keys.board(id) });
    if (kind === "task") void this.cache.invalidateQueries({ queryKey: keys.task(id) });
    if (kind === "run") {
      void this.cache.invalidateQueries({ queryKey: keys.run(id) });
      void this.cache.invalidateQueries({ queryKey: keys.runEvents(id) });
    }
  }

  /** Subjects that something on the screen shows. */
  openSubjects(): string[] {
    const subjects = this.cache.getQueryCache().findAll({ type: "active" }).map(subjectOf);
    return [...new Set(subjects.filter((subject) => subject !== null))];
  }

  /** What an event changes beside its own subject. */
  spread(event: PlatformEvent): void {
    if (!isKnown(event)) return;
    switch (event.type) {
      case "card.created":
      case "card.updated":
      case "card.moved":
        this.refreshCard(event.data.card.id);
        if (event.data.changes.includes("pull_request")) this.refreshRuns(event.data.card.id);
        return;
      case "comment.created":
        this.addComment(event.data.comment);
        void this.cache.invalidateQueries({ queryKey: keys.history(event.data.card_id) });
        return;
      case "task.created":
      case "task.completed":
      case "task.failed":
      case "task.rolled_back":
      case "task.cancelled":
      case "team.provisioned":
      case "workspace.provisioned":
        void this.cache.invalidateQueries({ queryKey: keys.workspaces });
        void this.cache.invalidateQueries({ queryKey: keys.teams });
        return;
      case "workspace.deleted":
      case "team.deleted":
        this.forget(event);
        return;
      case "usage.recorded":
        this.showUsage(event.data);
        return;
      case "agent.queued":
      case "agent.starting":
      case "agent.started":
      case "agent.completed":
      case "agent.failed":
      case "agent.cancelled":
        this.showRun(event);
    }
  }

  /** Lists drop it; a page that shows it says that it is gone. */
  private forget({ type, data }: Extract<KnownEvent, { type: "team.deleted" | "workspace.deleted" }>): void {
    const boardId = `board_${data.workspace_id ?? data.team_id}`;
    this.cache.setQueryData(keys.gone(boardId), data.name);
    if (type === "workspace.deleted") return; // its team follows at once
    void this.cache.invalidateQueries({ queryKey: keys.workspaces });
    void this.cache.invalidateQueries({ queryKey: keys.teams });
    void this.cache.invalidateQueries({ queryKey: keys.board(boardId) });
  }

  private applyToBoard(boardId: string, event: PlatformEvent): void {
    const view = this.cache.getQueryData<BoardView>(keys.board(boardId));
    if (view === undefined || event.sequence <= view.board.sequence) return;
    if (isKnown(event) && event.type === "card.deleted") this.gone.set(event.data.card.id, event.data.card.revision);
    this.cache.setQueryData(keys.board(boardId), applyToBoard(view, event, this.gone));
    if (isOfUnknownCard(view, event)) {
      void this.cache.invalidateQueries({ queryKey: keys.board(boardId), refetchType: "all" });
    }
  }

  private refreshCard(id: string): void {
    void this.cache.invalidateQueries({ queryKey: keys.card(id) });
    void this.cache.invalidateQueries({ queryKey: keys.history(id) });
  }

  /** Results of runs that are over change without an event of their own. */
  private refreshRuns(cardId: string): void {
    void this.cache.invalidateQueries({ queryKey: keys.cardRuns(cardId) });
    void this.cache.invalidateQueries({ predicate: ({ queryKey: [kind], state }) => kind === "run" && (state.data as Run | undefined)?.card_id === cardId });
  }

  private addComment(comment: Comment): void {
    this.change<Page<Comment>>(keys.comments(comment.card_id), (page) => withComment(page, comment));
  }

  private showRun(event: Extract<KnownEvent, { data: { run: Run } }>): void {
    const { run, board_id, card_id } = event.data;
    this.change<BoardView>(keys.board(board_id), (view) => applyRun(view, card_id, run));
    this.change<Card>(keys.card(card_id), (card) => ({ ...card, run: badge(run, card) }));
    this.change<Page<Run>>(keys.cardRuns(card_id), (page) => withRun(page, { ...run, sequence: event.sequence }));
    // A card written to counts as fresh, even one that an earlier event had found to be out of date.
    this.refreshCard(card_id);
  }

  private showUsage({ card_id, run_id, usage }: Extract<KnownEvent, { type: "usage.recorded" }>["data"]): void {
    if (card_id === null) return;
    this.change<Page<Run>>(keys.cardRuns(card_id), ({ items }) => ({
      items: items.map((run) => (run.id === run_id ? { ...run, usage } : run)),
    }));
  }

  private change<State>(key: readonly unknown[], update: (state: State) => State): void {
    this.cache.setQueryData<State>(key, (state) => (state === undefined ? undefined : update(state)));
  }
}

export function withComment(page: Page<Comment>, comment: Comment): Page<Comment> {
  return page.items.some((known) => known.id === comment.id) ? page : { items: [...page.items, comment] };
}

/** Newest attempt first. */
export function withRun(page: Page<Run>, run: Run): Page<Run> {
  const others = page.items.filter((known) => known.id !== run.id);
  return { items: [run, ...others].sort((one, other) => other.created_at.localeCompare(one.created_at)) };
}

/** A change of a card that is not there: it was deleted since, or its creation is still to be told. */
function isOfUnknownCard(view: BoardView, event: PlatformEvent): boolean {
  if (!isKnown(event) || (event.type !== "card.updated" && event.type !== "card.moved")) return false;
  return !hasCard(view, event.data.card.id);
}

export function eventsPath(subject: string): string {
  const [kind, id] = split(subject);
  return `/${kind}s/${id}/events`;
}

function split(subject: string): [kind: string, id: string] {
  const slash = subject.indexOf("/");
  return [subject.slice(0, slash), subject.slice(slash + 1)];
}

function subjectOf(query: Query): string | null {
  const [kind, id] = query.queryKey;
  if (typeof id !== "string" || query.state.data === undefined) return null;
  if (kind === "board" || kind === "task" || kind === "run") return `${kind}/${id}`;
  return kind === "run-events" ? `run/${id}` : null;
}
