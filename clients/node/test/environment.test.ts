/** The variables of the environment: what is read, and what is refused without repeating it. */

import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connectOptions, optionsFromEnvironment, WrongOptionError } from "../src/environment.js";

const folder = mkdtempSync(join(tmpdir(), "nats-identify-"));

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

test("the address, the prefix and the login are read", () => {
  const options = optionsFromEnvironment({
    NATS_URL: "nats://a, b:4223",
    NATS_USER: "shard",
    NATS_PASSWORD: "secret",
    NATS_INBOX_PREFIX: "_INBOX_shard",
    IDENTIFY_PREFIX: "bots.alpha",
    NATS_TOKEN: "",
  });
  assert.equal(options.prefix, "bots.alpha");
  const read = connectOptions(options);
  assert.deepEqual([read.servers, read.inboxPrefix, read.tls], [["a:4222", "b:4223"], "_INBOX_shard", undefined]);
  assert.deepEqual(read.authenticator?.(), { user: "shard", pass: "secret" });
});

test("credentials of the address are percent-decoded, and taken out of it", () => {
  const read = connectOptions({ servers: "tls://sh%3Aard:p%40ss:word@[::1]:4222" });
  assert.deepEqual(read.servers, ["[::1]:4222"]);
  assert.deepEqual(read.authenticator?.(), { user: "sh:ard", pass: "p@ss:word" });
  assert.deepEqual(connectOptions({ servers: "nats://token@host" }).authenticator?.(), { auth_token: "token" });
});

test("an address or an option that asks for TLS never connects without it", () => {
  assert.deepEqual(connectOptions({ servers: "tls://host" }).tls, {});
  assert.deepEqual(connectOptions({ tlsHandshakeFirst: true }).tls, { handshakeFirst: true });
  const pem = "-----BEGIN CERTIFICATE-----\n";
  assert.deepEqual(connectOptions({ tlsCa: file("ca.pem", pem) }).tls, { ca: pem });
});

for (const [name, environment] of [
  ["NATS_URL", {}],
  ["NATS_URL", { NATS_URL: " , " }],
  ["NATS_URL", { NATS_URL: "http://s3cret@host" }],
  ["NATS_URL", { NATS_URL: "nats://s3cret@host:99999" }],
  ["NATS_URL", { NATS_URL: "nats://s3cret@ho st" }],
  ["NATS_URL", { NATS_URL: "nats://:s3cret@host" }],
  ["NATS_URL", { NATS_URL: "nats://s3cret%ff@host" }],
  ["NATS_URL", { NATS_URL: "nats://s3cret:a@one,nats://s3cret:b@two" }],
  ["NATS_URL", { NATS_URL: "nats://s3cret@host", NATS_TOKEN: "other" }],
  ["IDENTIFY_PREFIX", { NATS_URL: "host", IDENTIFY_PREFIX: "s3cret.*" }],
  ["NATS_USER", { NATS_URL: "host", NATS_USER: "s3cret" }],
  ["NATS_PASSWORD", { NATS_URL: "host", NATS_PASSWORD: "s3cret" }],
  ["NATS_TOKEN", { NATS_URL: "host", NATS_TOKEN: "s3cret", NATS_NKEY_SEED_FILE: "/none" }],
  ["NATS_CREDS_FILE", { NATS_URL: "host", NATS_CREDS_FILE: join(folder, "s3cret") }],
  ["NATS_CREDS_FILE", { NATS_URL: "host", NATS_CREDS_FILE: file("creds", "s3cret") }],
  ["NATS_NKEY_SEED_FILE", { NATS_URL: "host", NATS_NKEY_SEED_FILE: folder }],
  ["NATS_TLS_CERT", { NATS_URL: "host", NATS_TLS_CERT: "s3cret" }],
  ["NATS_TLS_CA", { NATS_URL: "host", NATS_TLS_CA: file("ca", "s3cret") }],
  ["NATS_TLS_HANDSHAKE_FIRST", { NATS_URL: "host", NATS_TLS_HANDSHAKE_FIRST: "s3cret" }],
  ["NATS_INBOX_PREFIX", { NATS_URL: "host", NATS_INBOX_PREFIX: "s3cret.>" }],
] as const) {
  test(`${name} is named where ${JSON.stringify(Object.keys(environment))} make no sense`, () => {
    assert.throws(
      () => optionsFromEnvironment(environment),
      (error) => error instanceof WrongOptionError && error.message.includes(name) && !error.message.includes("s3cret"),
    );
  });
}
