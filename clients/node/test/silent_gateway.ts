/** As much of Discord's gateway as a test of a dead connection needs: the first connection hears nothing after HELLO. */

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";

const MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455
const DISPATCH = 0;
const HEARTBEAT = 1;
const IDENTIFY = 2;
const HELLO = 10;
const HEARTBEAT_ACK = 11;

export class SilentGateway {
  /** The connections that have had HELLO. */
  readonly sockets: Duplex[] = [];
  /** By the index of its connection. */
  readonly identifies: number[] = [];
  readonly #server: Server;

  constructor() {
    this.#server = createServer();
    this.#server.on("upgrade", (request: IncomingMessage, socket: Duplex) => this.#accept(request, socket));
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(request: IncomingMessage, socket: Duplex): void {
    const accept = createHash("sha1").update(`${request.headers["sec-websocket-key"]}${MAGIC}`).digest("base64");
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    socket.on("error", () => undefined);
    const index = this.sockets.push(socket) - 1;
    let left: Buffer = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      left = Buffer.concat([left, chunk]);
      for (let frame = frameOf(left); frame !== null; frame = frameOf(left)) {
        left = left.subarray(frame.size);
        if (index > 0) this.#read(index, frame);
      }
    });
    send(socket, { op: HELLO, d: { heartbeat_interval: index === 0 ? 100 : 60_000 } });
  }

  #read(index: number, { isText, text }: Frame): void {
    const socket = this.sockets[index] as Duplex;
    if (!isText) return void socket.end(); // it says that it closes
    const { op } = JSON.parse(text);
    if (op === HEARTBEAT) send(socket, { op: HEARTBEAT_ACK });
    if (op !== IDENTIFY) return;
    this.identifies.push(index);
    send(socket, { op: DISPATCH, t: "READY", s: 1, d: { session_id: "a", resume_gateway_url: "ws://127.0.0.1:9" } });
  }
}

interface Frame {
  isText: boolean;
  text: string;
  size: number;
}

function send(socket: Duplex, message: object): void {
  const payload = Buffer.from(JSON.stringify(message)); // shorter than 126 bytes
  socket.write(Buffer.concat([Buffer.from([0x81, payload.length]), payload]));
}

/** Return the first frame, or null where it is not complete. A client masks each. */
function frameOf(data: Buffer): Frame | null {
  if (data.length < 2) return null;
  const short = data.readUInt8(1) & 0x7f;
  const begin = short === 126 ? 4 : 2; // no message of a test has 64 KiB
  if (data.length < begin) return null;
  const length = short === 126 ? data.readUInt16BE(2) : short;
  const size = begin + 4 + length;
  if (data.length < size) return null;
  const mask = data.subarray(begin, begin + 4);
  const payload = data.subarray(begin + 4, size).map((byte, index) => byte ^ (mask[index % 4] ?? 0));
  return { isText: (data.readUInt8(0) & 0x0f) === 1, text: Buffer.from(payload).toString(), size };
}
