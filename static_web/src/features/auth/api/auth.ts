import { queryOptions } from "@tanstack/react-query";

import { api } from "@/api/client";
import { keys } from "@/api/keys";
import { endSession, startSession } from "@/api/session";
import type { ApiToken, CreatedApiToken, Session, User } from "@/api/types";

const STATE_KEY = "kanban.sign_in.state";
const RETURN_KEY = "kanban.sign_in.return_to";

export const meQuery = queryOptions({
  queryKey: keys.me,
  queryFn: () => api.get<User>("/auth/me"),
  staleTime: Infinity,
});

/** Leaves the app for the identity provider, which comes back to /auth/callback. */
export async function beginSignIn(returnTo: string): Promise<void> {
  const { auth_url, state } = await api.get<{ auth_url: string; state: string }>("/auth/login", {
    anonymous: true,
    query: { redirect_uri: `${location.origin}/auth/callback` },
  });
  sessionStorage.setItem(STATE_KEY, state);
  sessionStorage.setItem(RETURN_KEY, returnTo);
  location.assign(auth_url);
}

/** Ends the sign-in that this tab began, once; gives the path to go on with. */
export async function completeSignIn(answer: URLSearchParams): Promise<string> {
  const [code, state, error] = [answer.get("code"), answer.get("state"), answer.get("error")];
  const expected = sessionStorage.getItem(STATE_KEY);
  sessionStorage.removeItem(STATE_KEY);
  if (error === "access_denied") throw new Error("You cancelled at Entra ID, or it did not let you in.");
  if (error) throw new Error(answer.get("error_description") ?? `The identity provider answered “${error}”.`);
  if (!code || !state) throw new Error("The identity provider's answer is incomplete.");
  if (state !== expected) throw new Error("This answer belongs to a sign-in that was not begun in this tab.");
  startSession(await api.post<Session>("/auth/callback", { anonymous: true, body: { code, state } }));
  const returnTo = sessionStorage.getItem(RETURN_KEY);
  sessionStorage.removeItem(RETURN_KEY);
  return localPath(returnTo);
}

/** Only paths of this app: never a way to send somebody elsewhere. */
export function localPath(path: string | null | undefined): string {
  return path?.startsWith("/") && !/^\/[/\\]/.test(path) ? path : "/";
}

export async function signOut(): Promise<void> {
  const refreshToken = endSession();
  if (refreshToken !== null) {
    await api.post("/auth/logout", { anonymous: true, body: { refresh_token: refreshToken } });
  }
}

export const apiTokensQuery = queryOptions({
  queryKey: keys.apiTokens,
  queryFn: () => api.get<ApiToken[]>("/auth/tokens"),
});

export const createApiToken = (body: { name: string; expires_in_days: number | null }) =>
  api.post<CreatedApiToken>("/auth/tokens", { body });

export const revokeApiToken = (id: string) => api.delete(`/auth/tokens/${id}`);
