/**
 * The signed-in session. The access token lives in memory; the refresh token in localStorage, where all tabs of the
 * browser share it. Refresh tokens rotate, so only one tab at a time may use it: a Web Lock makes the rest wait.
 */
import { apiUrl } from "./config";
import { Problem } from "./problem";
import type { Session } from "./types";

const REFRESH_KEY = "kanban.refresh_token";
const LOCK = "kanban.session";
const EARLY_MS = 30_000;

let access: { token: string; expiresAt: number } | null = null;
let refreshing: Promise<string | null> | null = null;
const listeners = new Set<() => void>();

export function isSignedIn(): boolean {
  return localStorage.getItem(REFRESH_KEY) !== null;
}

/** Called when the session ends here, in another tab, or because the server ended it. */
export function onSignedOut(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function startSession(session: Session): void {
  access = { token: session.access_token, expiresAt: Date.now() + session.expires_in * 1000 };
  localStorage.setItem(REFRESH_KEY, session.refresh_token);
}

export function endSession(): string | null {
  const refreshToken = localStorage.getItem(REFRESH_KEY);
  access = null;
  localStorage.removeItem(REFRESH_KEY);
  listeners.forEach((listener) => {
    listener();
  });
  return refreshToken;
}

/** A valid access token, refreshed when needed; null when there is no session (any more). */
export async function accessToken(): Promise<string | null> {
  if (access && access.expiresAt - EARLY_MS > Date.now()) return access.token;
  return refreshAccessToken(access?.token ?? null);
}

/** Replaces `rejected`, a token that the API refused or that is about to expire. */
export function refreshAccessToken(rejected: string | null): Promise<string | null> {
  if (access && access.token !== rejected) return Promise.resolve(access.token);
  refreshing ??= exclusively(refresh).finally(() => {
    refreshing = null;
  });
  return refreshing;
}

async function exclusively<Result>(work: () => Promise<Result>): Promise<Result> {
  if (!("locks" in navigator)) return work();
  return navigator.locks.request(LOCK, work);
}

async function refresh(): Promise<string | null> {
  const refreshToken = localStorage.getItem(REFRESH_KEY);
  if (refreshToken === null) return null;
  const response = await fetch(apiUrl("/auth/refresh"), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ refresh_token: refreshToken }),
  }).catch(() => {
    throw Problem.unreachable();
  });
  if (response.ok) {
    startSession((await response.json()) as Session);
    return access?.token ?? null;
  }
  const problem = await Problem.from(response);
  if (![400, 401, 403, 422].includes(problem.status)) throw problem;
  endSession();
  return null;
}

window.addEventListener("storage", (event) => {
  if (event.key === REFRESH_KEY && event.newValue === null) {
    access = null;
    listeners.forEach((listener) => {
      listener();
    });
  }
});
