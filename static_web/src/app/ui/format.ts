/** Times, amounts and sizes in the words people see. */

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const DATE_TIME = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "short" });
const DAY_AND_YEAR = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const TINY = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

export function relativeTime(time: string, now = Date.now()): string {
  const seconds = (Date.parse(time) - now) / 1000;
  for (const [unit, length] of UNITS) {
    if (Math.abs(seconds) >= length) return RELATIVE.format(Math.round(seconds / length), unit);
  }
  return "just now";
}

export function dateTime(time: string): string {
  return DATE_TIME.format(new Date(time));
}

/** A calendar day, YYYY-MM-DD, which has no time zone. */
export function day(date: string, now = new Date()): string {
  const value = new Date(`${date}T00:00:00`);
  return (value.getFullYear() === now.getFullYear() ? DAY : DAY_AND_YEAR).format(value);
}

export function isOverdue(date: string, now = new Date()): boolean {
  return new Date(`${date}T23:59:59.999`) < now;
}

export function duration(milliseconds: number): string {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** From start to end, or to now while it lasts. */
export function elapsed(start: string | null, end: string | null, now: number): string {
  return start === null ? "–" : duration((end === null ? now : Date.parse(end)) - Date.parse(start));
}

export function compact(amount: number): string {
  return COMPACT.format(amount);
}

export function usd(amount: number): string {
  if (amount > 0 && amount < 0.0001) return `$${TINY.format(amount)}`;
  return `$${amount.toFixed(amount > 0 && amount < 1 ? 4 : 2)}`;
}

export function plural(count: number, singular: string, several = `${singular}s`): string {
  return `${count} ${count === 1 ? singular : several}`;
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/);
  return `${words[0]?.[0] ?? "?"}${words.length > 1 ? (words.at(-1)?.[0] ?? "") : ""}`.toUpperCase();
}
