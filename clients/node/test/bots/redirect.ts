/** Points discord.js at a simulated gateway: `node --import ./redirect.js bot.js`, with DISCORD_API. */

import { createRequire } from "node:module";

const { DefaultRestOptions } = createRequire(import.meta.url)("@discordjs/rest"); // discord.js requires it, too
DefaultRestOptions.api = process.env["DISCORD_API"] ?? "http://127.0.0.1:9/api"; // never the real one
