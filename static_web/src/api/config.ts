/** Where the API is: read from /config.json when the app starts, so one build serves every deployment. */

interface Config {
  apiUrl: string;
}

let config: Config | null = null;

export async function loadConfig(): Promise<void> {
  const response = await fetch("/config.json", { cache: "no-store" });
  if (!response.ok) throw new Error(`/config.json answered ${response.status}; the web server must provide it.`);
  const value: unknown = await response.json();
  if (typeof value !== "object" || value === null || !("apiUrl" in value) || typeof value.apiUrl !== "string") {
    throw new Error('/config.json must hold {"apiUrl": "https://..."}.');
  }
  config = { apiUrl: value.apiUrl.replace(/\/+$/, "") };
}

export function apiUrl(path: string): string {
  if (!config) throw new Error("The configuration has not been loaded.");
  return `${config.apiUrl}/api${path}`;
}
