/** One Web PubSub connection per session, kept up for as long as somebody is signed in. */
import { WebPubSubClient, WebPubSubJsonReliableProtocol } from "@azure/web-pubsub-client";

import { api } from "@/api/client";

export type ConnectionStatus = "connecting" | "live" | "reconnecting";

interface Handlers {
  onMessage: (message: unknown) => void;
  onStatus: (status: ConnectionStatus) => void;
}

const LONGEST_PAUSE_MS = 15_000;

export class RealtimeConnection {
  private client: WebPubSubClient | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private closed = false;

  constructor(private readonly handlers: Handlers) {}

  open(): void {
    this.handlers.onStatus(this.failures === 0 ? "connecting" : "reconnecting");
    const client = new WebPubSubClient(
      { getClientAccessUrl: negotiate },
      { protocol: WebPubSubJsonReliableProtocol(), autoReconnect: false },
    );
    this.client = client;
    client.on("connected", () => {
      if (this.client !== client) {
        client.stop(); // closed while it was still connecting
        return;
      }
      this.failures = 0;
      this.handlers.onStatus("live");
    });
    client.on("group-message", ({ message }) => {
      if (this.client === client) this.handlers.onMessage(message.data);
    });
    client.on("server-message", ({ message }) => {
      if (this.client === client) this.handlers.onMessage(message.data);
    });
    client.on("stopped", () => this.lost(client));
    client.start().catch(() => this.lost(client));
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.client?.stop();
    this.client = null;
  }

  private lost(client: WebPubSubClient): void {
    if (this.closed || this.client !== client) return;
    this.client = null;
    this.failures += 1;
    this.handlers.onStatus("reconnecting");
    const pause = Math.min(500 * 2 ** this.failures, LONGEST_PAUSE_MS) * (0.5 + Math.random() / 2);
    this.timer = setTimeout(() => this.open(), pause);
  }
}

async function negotiate(): Promise<string> {
  return (await api.get<{ url: string }>("/realtime/negotiate")).url;
}
