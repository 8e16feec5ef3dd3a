/** As much of a NATS server as these tests need: it notes what it is sent, and says what a test wants. */

import { createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

export interface Published {
  subject: string;
  reply: string;
  payload: string;
}

export class FakeNats {
  /** Everything that clients have sent. */
  text = "";
  readonly published: Published[] = [];
  connections = 0;
  /** What comes instead of PONG to the first PING of a connection, such as `-ERR 'Authorization Violation'`. */
  refusal = "";
  /** Refuse every subscription: its permission is missing. */
  refusesSubscriptions = false;
  /** Say nothing at all. */
  isSilent = false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #sids = new Map<string, string>(); // by the subject, but for its last token

  constructor() {
    this.#server = createServer((socket) => this.#accept(socket));
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /** End every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Send a message to the inbox of the queue, as the reply to this request. */
  answer(request: Published, body: unknown, reply = ""): void {
    const payload = typeof body === "string" ? body : JSON.stringify(body);
    const sid = this.#sidOf(request);
    if (sid === "") return; // no one is subscribed to it
    this.#send(`MSG ${request.reply} ${sid} ${reply} ${Buffer.byteLength(payload)}\r\n${payload}\r\n`);
  }

  /** Report that no one is subscribed. */
  noResponders(request: Published): void {
    const headers = "NATS/1.0 503\r\n\r\n";
    this.#send(`HMSG ${request.reply} ${this.#sidOf(request)} ${headers.length} ${headers.length}\r\n${headers}\r\n`);
  }

  /** Wait for the next message on a subject that begins so, from this one on. */
  async until(subject: string, from = 0): Promise<Published> {
    return await until(() => this.published.slice(from).find((one) => one.subject.startsWith(subject)));
  }

  #send(text: string): void {
    for (const socket of this.#sockets) socket.write(text);
  }

  #accept(socket: Socket): void {
    this.connections += 1;
    this.#sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => this.#sockets.delete(socket));
    if (this.isSilent) return;
    socket.write('INFO {"server_id":"fake","version":"2.11.0","proto":1,"max_payload":1048576,"headers":true}\r\n');
    let left = "";
    socket.on("data", (chunk) => {
      this.text += chunk.toString();
      left = this.#read(socket, left + chunk.toString());
    });
  }

  /** Read whole protocol lines; return what is left. */
  #read(socket: Socket, text: string): string {
    for (;;) {
      const end = text.indexOf("\r\n");
      if (end < 0) return text;
      const words = text.slice(0, end).split(" ");
      let next = end + 2;
      if (words[0] === "PUB") {
        const size = Number(words.at(-1));
        if (text.length < next + size + 2) return text;
        this.#take(words, text.slice(next, next + size));
        next += size + 2;
      }
      if (words[0] === "SUB") this.#subscribe(socket, words[1] ?? "", words[2] ?? "");
      if (words[0] === "PING") socket.write(this.refusal === "" ? "PONG\r\n" : `${this.refusal}\r\n`);
      if (words[0] === "PING" && this.refusal !== "") socket.end();
      text = text.slice(next);
    }
  }

  #subscribe(socket: Socket, subject: string, sid: string): void {
    if (this.refusesSubscriptions) socket.write(`-ERR 'Permissions Violation for Subscription to "${subject}"'\r\n`);
    else this.#sids.set(withoutLast(subject), sid);
  }

  #sidOf(request: Published): string {
    return this.#sids.get(withoutLast(request.reply)) ?? "";
  }

  #take(words: string[], payload: string): void {
    const [, subject = "", reply = ""] = words;
    this.published.push({ subject, reply: words.length === 4 ? reply : "", payload });
  }
}

function withoutLast(subject: string): string {
  return subject.slice(0, subject.lastIndexOf("."));
}

/** Look until there is something. */
export async function until<T>(look: () => T | undefined | false, withinMs = 30_000): Promise<T> {
  for (const deadlineMs = performance.now() + withinMs; performance.now() < deadlineMs; ) {
    const found = look();
    if (found !== undefined && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`not within ${withinMs} ms: ${look}`);
}
