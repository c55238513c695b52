/** What each event does to the state it is about: pure functions, each ignoring what it has already seen. */
import { isKnown } from "@/api/events";
import type { BoardView, CardSummary, PlatformEvent, Run, Task } from "@/api/types";

export interface RunLog {
  events: PlatformEvent[];
  last: number;
}

/** `gone`: revisions of cards at their deletion. Events of a card may come in another order than it was changed. */
export function applyToBoard(view: BoardView, event: PlatformEvent, gone?: ReadonlyMap<string, number>): BoardView {
  if (event.sequence <= view.board.sequence) return view;
  const next = { ...view, board: { ...view.board, sequence: event.sequence } };
  if (!isKnown(event)) return next;
  switch (event.type) {
    case "card.created":
      return (gone?.get(event.data.card.id) ?? -1) > event.data.card.revision ? next : withCard(next, event.data.card);
    case "card.updated":
    case "card.moved":
      return hasCard(view, event.data.card.id) ? withCard(next, event.data.card) : next;
    case "card.deleted":
      return { ...next, cards: next.cards.filter((card) => card.id !== event.data.card.id || isLater(card, event.data.card)) };
    case "comment.created":
      return { ...next, cards: changeCard(next.cards, event.data.card_id, (card) => ({ comment_count: Math.max(card.comment_count, event.data.comment_count) })) };
    case "board.updated":
      return { ...next, board: { ...next.board, columns: event.data.columns, agents: event.data.agents } };
    default:
      return next;
  }
}

export function hasCard({ cards }: BoardView, id: string): boolean {
  return cards.some((card) => card.id === id);
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

/**
 * The cards with `card` in the place its rank gives it among the cards of its column. What an event that came late says
 * does not replace a later state of the card.
 */
export function placeByRank(cards: CardSummary[], card: CardSummary): CardSummary[] {
  if (cards.some((other) => isLater(other, card))) return cards;
  const others = cards.filter((other) => other.id !== card.id);
  const next = others.findIndex((other) => other.column_id === card.column_id && comesBefore(card, other));
  return next === -1 ? [...others, card] : others.toSpliced(next, 0, card);
}

/**
 * The state as fetched: anew, when events have meanwhile taken what is known further. While they keep coming, the next
 * one shows what the last fetch lacks.
 */
export async function snapshot<State>(
  fetch: () => Promise<State>,
  known: () => State | undefined,
  sequence: (state: State) => number,
  tries = 3,
): Promise<State> {
  const fetched = await fetch();
  const inStep = newest(known(), fetched, sequence) === fetched;
  return inStep || tries === 1 ? fetched : snapshot(fetch, known, sequence, tries - 1);
}

/** A snapshot never replaces a state that events have already taken further. */
export function newest<State>(known: State | undefined, fetched: State, sequence: (state: State) => number): State {
  return known !== undefined && sequence(known) > sequence(fetched) ? known : fetched;
}

function isLater(one: CardSummary, other: CardSummary): boolean {
  return one.id === other.id && one.revision > other.revision;
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

function withCard({ board, cards }: BoardView, card: CardSummary): BoardView {
  const comments = cards.find(({ id }) => id === card.id)?.comment_count ?? 0;
  const counted = { ...card, comment_count: Math.max(card.comment_count, comments) };
  return { board: withLabels(board, card.labels), cards: placeByRank(cards, counted) };
}

function withLabels(board: BoardView["board"], labels: string[]): BoardView["board"] {
  const added = labels.filter((label) => !board.labels.includes(label));
  return added.length === 0 ? board : { ...board, labels: [...board.labels, ...added].sort() };
}
