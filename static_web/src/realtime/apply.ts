/** What each event does to the state it is about: pure functions, each ignoring what it has already seen. */
import { isKnown } from "@/api/events";
import type { BoardView, CardSummary, PlatformEvent, Run, Task } from "@/api/types";

export interface RunLog {
  events: PlatformEvent[];
  last: number;
}

export function applyToBoard(view: BoardView, event: PlatformEvent): BoardView {
  if (event.sequence <= view.board.sequence) return view;
  const next = { ...view, board: { ...view.board, sequence: event.sequence } };
  if (!isKnown(event)) return next;
  switch (event.type) {
    case "card.created":
    case "card.updated":
    case "card.moved":
      return { board: withLabels(next.board, event.data.card.labels), cards: placeByRank(next.cards, event.data.card) };
    case "card.deleted":
      return { ...next, cards: next.cards.filter((card) => card.id !== event.data.card.id) };
    case "comment.created":
      return { ...next, cards: changeCard(next.cards, event.data.card_id, (card) => ({ comment_count: card.comment_count + 1 })) };
    case "board.updated":
      return { ...next, board: { ...next.board, columns: event.data.columns, agents: event.data.agents } };
    default:
      return next;
  }
}

export function applyToTask(task: Task, event: PlatformEvent): Task {
  if (event.sequence <= task.sequence) return task;
  const whole = isKnown(event) && "task" in event.data ? event.data.task : task;
  return { ...whole, sequence: event.sequence };
}

export function applyToRun(run: Run, event: PlatformEvent): Run {
  if (event.sequence <= run.sequence) return run;
  const next = { ...run, sequence: event.sequence };
  if (!isKnown(event)) return next;
  switch (event.type) {
    case "agent.queued":
    case "agent.starting":
    case "agent.started":
    case "agent.completed":
    case "agent.failed":
    case "agent.cancelled":
      return { ...event.data.run, sequence: event.sequence };
    case "usage.recorded":
      return { ...next, usage: event.data.usage };
    case "agent.progress":
      return event.data.kind === "turn" ? { ...next, turns: Math.max(run.turns, event.data.turn) } : next;
    default:
      return next;
  }
}

export function applyToRunLog(log: RunLog, event: PlatformEvent): RunLog {
  if (event.sequence <= log.last) return log;
  return { events: [...log.events, event], last: event.sequence };
}

/** The badge of a run on its card. A run without a result says nothing about the pull request that the card has. */
export function applyRun(view: BoardView, cardId: string, run: Run): BoardView {
  return { ...view, cards: changeCard(view.cards, cardId, (card) => ({ run: badge(run, card) })) };
}

export function badge({ id, status, result }: Run, { run: known }: Pick<CardSummary, "run">): CardSummary["run"] {
  return { id, status, pull_request: result ? (result.pull_request?.state ?? null) : (known?.pull_request ?? null) };
}

/** The cards with `card` in the place its rank gives it among the cards of its column. */
export function placeByRank(cards: CardSummary[], card: CardSummary): CardSummary[] {
  const others = cards.filter((other) => other.id !== card.id);
  const next = others.findIndex((other) => other.column_id === card.column_id && comesBefore(card, other));
  return next === -1 ? [...others, card] : others.toSpliced(next, 0, card);
}

/** A snapshot never replaces a state that events have already taken further. */
export function newest<State>(known: State | undefined, fetched: State, sequence: (state: State) => number): State {
  return known !== undefined && sequence(known) > sequence(fetched) ? known : fetched;
}

function comesBefore(one: CardSummary, other: CardSummary): boolean {
  return one.rank === other.rank ? one.id < other.id : one.rank < other.rank;
}

function changeCard(
  cards: CardSummary[],
  id: string,
  change: (card: CardSummary) => Partial<CardSummary>,
): CardSummary[] {
  return cards.map((card) => (card.id === id ? { ...card, ...change(card) } : card));
}

function withLabels(board: BoardView["board"], labels: string[]): BoardView["board"] {
  const added = labels.filter((label) => !board.labels.includes(label));
  return added.length === 0 ? board : { ...board, labels: [...board.labels, ...added].sort() };
}
