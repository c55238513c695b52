/**
 * Keeps every subject in step with its events. Sequences have no gaps, so an event that is not the next one means
 * that some were missed: they are fetched, in order, before anything else of that subject is applied.
 */
import type { EventPage, PlatformEvent } from "@/api/types";

export interface SubjectStore {
  /** Sequence the subject's state stands at; null when nobody holds that state. */
  cursor(subject: string): number | null;
  apply(event: PlatformEvent): void;
  /** Reads the whole state anew, when events alone cannot bring it up to date. */
  reload(subject: string): void;
}

export type FetchEvents = (subject: string, after: number) => Promise<EventPage>;

export class Feed {
  private readonly queues = new Map<string, Promise<void>>();

  constructor(
    private readonly store: SubjectStore,
    private readonly fetchEvents: FetchEvents,
  ) {}

  receive(event: PlatformEvent): Promise<void> {
    return this.inTurn(event.subject, async () => {
      const cursor = this.store.cursor(event.subject);
      if (cursor === null || event.sequence <= cursor) return;
      if ((event.from_sequence ?? event.sequence) > cursor + 1) await this.fetchMissed(event.subject);
      this.store.apply(event);
    });
  }

  /** After a lost connection, or instead of one. */
  catchUp(subject: string): Promise<void> {
    return this.inTurn(subject, () => this.fetchMissed(subject));
  }

  private async fetchMissed(subject: string): Promise<void> {
    for (;;) {
      const after = this.store.cursor(subject);
      if (after === null) return;
      const page = await this.fetchEvents(subject, after);
      page.items.forEach((event) => {
        this.store.apply(event);
      });
      const reached = this.store.cursor(subject);
      if (reached === null || reached >= page.last) return;
      if (reached === after) {
        this.store.reload(subject);
        return;
      }
    }
  }

  private inTurn(subject: string, work: () => Promise<void>): Promise<void> {
    const turn = (this.queues.get(subject) ?? Promise.resolve()).then(work).catch(() => {
      this.store.reload(subject);
    });
    this.queues.set(subject, turn);
    return turn;
  }
}
