/** Reads where NATS is and how to log in: the variables that the Python library and the coordinator read. */

import { readFileSync, statSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import {
  type Authenticator,
  credsAuthenticator,
  nkeyAuthenticator,
  tokenAuthenticator,
  type TlsOptions,
  usernamePasswordAuthenticator,
} from "@nats-io/transport-node";
import { Subjects } from "./wire.js";

const DEFAULT_URL = "nats://127.0.0.1:4222";
const FILE_BYTES_MAX = 65_536;
const PLACE = /^([^\s/:?#@[\]%\\]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?\/?$/;
const INBOX = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;

/** A variable or an option makes no sense. The message names it, says what to give, and repeats no value. */
export class WrongOptionError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "WrongOptionError";
  }
}

/** Where the queue is. */
export interface NatsOptions {
  /** One URL or several, with a comma between them or as an array; credentials in them are percent-decoded. */
  servers?: string | readonly string[];
  user?: string;
  password?: string;
  token?: string;
  /** The path of a credentials file. */
  credsFile?: string;
  /** The path of a file with the seed of a user's key. */
  nkeySeedFile?: string;
  /** The paths of PEM files. */
  tlsCa?: string;
  tlsCert?: string;
  tlsKey?: string;
  /** TLS begins before the server's INFO. */
  tlsHandshakeFirst?: boolean;
  /** What the reply subjects begin with, where the account's permissions ask for it. */
  inboxPrefix?: string;
}

/** What `connect` of nats.js takes of it, but for the behaviour, which is the queue's. */
export interface ConnectOptions {
  servers: string[];
  authenticator?: Authenticator;
  tls?: TlsOptions;
  inboxPrefix: string;
}

/** The names of the options in the environment. */
const VARIABLES = {
  servers: "NATS_URL",
  user: "NATS_USER",
  password: "NATS_PASSWORD",
  token: "NATS_TOKEN",
  credsFile: "NATS_CREDS_FILE",
  nkeySeedFile: "NATS_NKEY_SEED_FILE",
  tlsCa: "NATS_TLS_CA",
  tlsCert: "NATS_TLS_CERT",
  tlsKey: "NATS_TLS_KEY",
  tlsHandshakeFirst: "NATS_TLS_HANDSHAKE_FIRST",
  inboxPrefix: "NATS_INBOX_PREFIX",
} as const;

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Return the options of the environment, for `new IdentifyQueue(…)`; an empty variable is an unset one.
 *
 * @throws WrongOptionError a variable makes no sense, or NATS_URL is not set.
 */
export function optionsFromEnvironment(environment: Environment = process.env): NatsOptions & { prefix: string } {
  const options: Record<string, string | boolean> = {};
  for (const [option, variable] of Object.entries(VARIABLES)) {
    const value = environment[variable];
    if (value) options[option] = option === "tlsHandshakeFirst" ? yesOrNo(value, variable) : value;
  }
  if (options["servers"] === undefined) {
    throw new WrongOptionError("NATS_URL: is not set; give the queue's, such as nats://nats:4222");
  }
  const prefix = environment["IDENTIFY_PREFIX"] || "identify";
  try {
    new Subjects(prefix);
  } catch (error) {
    const why = error instanceof Error ? error.message : "";
    throw new WrongOptionError(`IDENTIFY_PREFIX: ${why}; give the prefix of the bot's coordinators`);
  }
  connectOptions(options, VARIABLES); // what can never work is refused here, by its variable's name
  return { ...options, prefix };
}

/**
 * Return the options of nats.js.
 *
 * @param names what the options are called where they were set.
 * @throws WrongOptionError they can never work.
 */
export function connectOptions(
  options: NatsOptions,
  names: Readonly<Record<string, string>> = {},
): ConnectOptions {
  const name = (option: keyof NatsOptions): string => names[option] ?? option;
  const { servers, access, asksForTls } = readServers(options.servers ?? DEFAULT_URL, name("servers"));
  const authenticator = readLogin(options, access, name);
  const tls = readTls(options, name, asksForTls);
  const inboxPrefix = options.inboxPrefix ?? "_INBOX";
  if (!INBOX.test(inboxPrefix)) {
    throw new WrongOptionError(`${name("inboxPrefix")}: is no subject prefix; give tokens, as in _INBOX_shard.pod-0`);
  }
  return {
    servers,
    inboxPrefix,
    ...(authenticator === undefined ? {} : { authenticator }),
    ...(tls === undefined ? {} : { tls }),
  };
}

interface Servers {
  servers: string[];
  access: { user?: string; password?: string; token?: string };
  asksForTls: boolean;
}

/** Read the addresses. What stands before the `@` is a secret: no error repeats any part of an address. */
function readServers(given: string | readonly string[], name: string): Servers {
  const parts = (typeof given === "string" ? [given] : given).flatMap((text) => text.split(",")).map((part) => part.trim());
  const urls = parts.filter((part) => part !== "");
  const wrong = (why: string): never => {
    throw new WrongOptionError(`${name}: ${why}; give nats://host:port, or several of them separated by commas`);
  };
  if (urls.length === 0) wrong("names no server");
  const servers: string[] = [];
  let access: Servers["access"] = {};
  let asksForTls = false;
  for (const url of urls) {
    const [, scheme = "nats", rest = ""] = /^(?:([A-Za-z]*):\/\/)?(.*)$/.exec(url) ?? [];
    if (!["nats", "tls"].includes(scheme.toLowerCase())) wrong("an address begins with neither nats:// nor tls://");
    asksForTls ||= scheme.toLowerCase() === "tls";
    const at = rest.lastIndexOf("@");
    const [, host, port = "4222"] = PLACE.exec(rest.slice(at + 1)) ?? [];
    if (host === undefined || Number(port) < 1 || Number(port) > 65_535) wrong("an address names no valid host and port");
    servers.push(`${host}:${port}`);
    if (at < 0) continue;
    const found = readAccess(rest.slice(0, at), wrong);
    if (Object.keys(access).length > 0 && !isDeepStrictEqual(found, access)) wrong("the servers have different credentials");
    access = found;
  }
  return { servers, access, asksForTls };
}

function readAccess(secret: string, wrong: (why: string) => never): Servers["access"] {
  const colon = secret.indexOf(":");
  try {
    const user = decodeURIComponent(colon < 0 ? secret : secret.slice(0, colon));
    const password = colon < 0 ? null : decodeURIComponent(secret.slice(colon + 1));
    if (user === "" || password === "") wrong("an address has an empty user name, password or token before the @");
    return password === null ? { token: user } : { user, password };
  } catch (error) {
    if (error instanceof WrongOptionError) throw error;
    return wrong("an address has credentials whose percent-encoding is not UTF-8");
  }
}

type Name = (option: keyof NatsOptions) => string;

function readLogin(options: NatsOptions, access: Servers["access"], name: Name): Authenticator | undefined {
  const given = (["user", "token", "credsFile", "nkeySeedFile"] as const)
    .filter((option) => options[option] !== undefined)
    .map((option) => name(option));
  if (Object.keys(access).length > 0) given.unshift(`the credentials in ${name("servers")}`);
  if (given.length > 1) throw new WrongOptionError(`${given.join(" and ")}: more than one login; keep one of them`);
  const { user, password, token, credsFile, nkeySeedFile } = { ...options, ...access };
  if ((user === undefined) !== (password === undefined)) {
    const [one, other] = user === undefined ? ["password", "user"] as const : ["user", "password"] as const;
    throw new WrongOptionError(`${name(one)}: is set without ${name(other)}; set both or neither`);
  }
  if (user !== undefined) return usernamePasswordAuthenticator(user, password ?? "");
  if (token !== undefined) return tokenAuthenticator(token);
  if (credsFile !== undefined) {
    const read = (): Uint8Array => readSecret(credsFile, name("credsFile"), /BEGIN NATS USER JWT[^]*BEGIN USER NKEY SEED/);
    read();
    return credsAuthenticator(read); // read anew at each connect: a file that was renewed counts
  }
  if (nkeySeedFile !== undefined) {
    const read = (): Uint8Array => readSecret(nkeySeedFile, name("nkeySeedFile"), /^\s*SU[A-Z2-7]+\s*$/);
    read();
    return nkeyAuthenticator(() => new TextEncoder().encode(new TextDecoder().decode(read()).trim()));
  }
  return undefined;
}

function readSecret(path: string, name: string, looksLike: RegExp): Uint8Array {
  const content = readFile(path, name);
  if (!looksLike.test(new TextDecoder().decode(content))) {
    throw new WrongOptionError(`${name}: holds no credentials of a NATS user; give the file that nsc or nk made`);
  }
  return content;
}

function readTls(options: NatsOptions, name: Name, isAsked: boolean): TlsOptions | undefined {
  const { tlsCa, tlsCert, tlsKey, tlsHandshakeFirst } = options;
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    const [one, other] = tlsCert === undefined ? ["tlsKey", "tlsCert"] as const : ["tlsCert", "tlsKey"] as const;
    throw new WrongOptionError(`${name(one)}: is set without ${name(other)}; set both or neither`);
  }
  // With `tls` set, nats.js refuses a server without TLS before it sends a password.
  if (!isAsked && !tlsCa && !tlsCert && !tlsHandshakeFirst) return undefined;
  const pem = (option: "tlsCa" | "tlsCert" | "tlsKey", path: string): string => {
    const text = new TextDecoder().decode(readFile(path, name(option)));
    if (!text.includes("-----BEGIN ")) throw new WrongOptionError(`${name(option)}: is no PEM file; give one`);
    return text;
  };
  return {
    ...(tlsCa === undefined ? {} : { ca: pem("tlsCa", tlsCa) }),
    ...(tlsCert === undefined ? {} : { cert: pem("tlsCert", tlsCert) }),
    ...(tlsKey === undefined ? {} : { key: pem("tlsKey", tlsKey) }),
    ...(tlsHandshakeFirst === undefined ? {} : { handshakeFirst: tlsHandshakeFirst }),
  };
}

function readFile(path: string, name: string): Uint8Array {
  try {
    const found = statSync(path);
    if (found.isFile() && found.size <= FILE_BYTES_MAX) return readFileSync(path);
  } catch {
    // said below, without the path
  }
  throw new WrongOptionError(`${name}: cannot be read; give a readable file`);
}

function yesOrNo(value: string, name: string): boolean {
  const word = value.trim().toLowerCase();
  if (["1", "true", "yes", "on"].includes(word)) return true;
  if (["0", "false", "no", "off"].includes(word)) return false;
  throw new WrongOptionError(`${name}: is neither yes nor no; give 1 or 0`);
}
