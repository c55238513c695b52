/** HTTP to the API: bearer token, one refresh on 401, errors as Problem. */
import { apiUrl } from "./config";
import { Problem } from "./problem";
import { accessToken, endSession, refreshAccessToken } from "./session";

interface Options {
  body?: unknown;
  query?: Record<string, string | number | null | undefined>;
  ifMatch?: string | undefined;
  anonymous?: boolean;
  signal?: AbortSignal;
}

export const api = {
  get: <Result>(path: string, options?: Options) => request<Result>("GET", path, options),
  post: <Result>(path: string, options?: Options) => request<Result>("POST", path, options),
  patch: <Result>(path: string, options?: Options) => request<Result>("PATCH", path, options),
  put: <Result>(path: string, options?: Options) => request<Result>("PUT", path, options),
  /** As it is, for files. */
  text: async (path: string, options?: Options) => (await authorized("GET", path, options)).text(),
  delete: <Answer = undefined>(path: string) => request<Answer>("DELETE", path),
};

async function request<Result>(method: string, path: string, options: Options = {}): Promise<Result> {
  if (options.anonymous) return answer<Result>(await send(method, path, options, null));
  return answer<Result>(await authorized(method, path, options));
}

/** Throws a Problem for an error of the API. */
async function authorized(method: string, path: string, options: Options = {}): Promise<Response> {
  const token = await accessToken();
  let response = await send(method, path, options, token);
  if (response.status === 401) {
    const renewed = await refreshAccessToken(token);
    if (renewed !== null) response = await send(method, path, options, renewed);
    if (response.status === 401) endSession();
  }
  if (!response.ok) throw await Problem.from(response);
  return response;
}

async function send(method: string, path: string, options: Options, token: string | null): Promise<Response> {
  const headers = new Headers({ Accept: "application/json" });
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
  if (options.ifMatch !== undefined) headers.set("If-Match", options.ifMatch);
  const init: RequestInit = { method, headers };
  if (options.signal) init.signal = options.signal;
  if (options.body !== undefined) {
    headers.set("Content-Type", "application/json");
    init.body = JSON.stringify(options.body);
  }
  try {
    return await fetch(apiUrl(path) + queryString(options.query), init);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw Problem.unreachable();
  }
}

async function answer<Result>(response: Response): Promise<Result> {
  if (!response.ok) throw await Problem.from(response);
  if (response.status === 204) return undefined as Result;
  return (await response.json()) as Result;
}

function queryString(query: Options["query"]): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text ? `?${text}` : "";
}
