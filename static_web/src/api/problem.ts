/** An answer of the API that is not a success, in the words of its problem+json. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly type: string,
    readonly title: string,
    detail: string,
    readonly requestId: string | null = null,
  ) {
    super(detail || title);
    this.name = "Problem";
  }

  static unreachable(): Problem {
    return new Problem(0, "unreachable", "No connection", "The server cannot be reached. Check your connection and try again.");
  }

  static async from(response: Response): Promise<Problem> {
    const text = await response.text();
    try {
      const body = JSON.parse(text) as Record<string, unknown>;
      const word = (key: string, otherwise: string) => (typeof body[key] === "string" ? body[key] : otherwise);
      const requestId = word("request_id", "");
      return new Problem(
        response.status,
        word("type", "unknown"),
        word("title", response.statusText),
        word("detail", ""),
        requestId || null,
      );
    } catch {
      return new Problem(response.status, "unknown", response.statusText || `HTTP ${response.status}`, "");
    }
  }
}

export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function isProblem(error: unknown, ...statuses: number[]): error is Problem {
  return error instanceof Problem && (statuses.length === 0 || statuses.includes(error.status));
}
