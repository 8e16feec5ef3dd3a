// A process of a bot made of @discordjs/ws as it comes. It takes the arguments of nats_identify.cli.demo.fleet.
import { parseArgs } from 'node:util';
import { REST } from '@discordjs/rest';
import { WebSocketManager, WebSocketShardEvents } from '@discordjs/ws';

const names = ['name', 'shard-ids', 'shard-count', 'api-url', 'gateway-url', 'max-concurrency', 'window-s'];
const { values } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, { type: 'string' }])) });
const token = process.env.DISCORD_TOKEN;
const [, api, version] = /^(.*)\/v(\d+)$/.exec(values['api-url']);
const manager = new WebSocketManager({
	token,
	intents: 0,
	rest: new REST({ api, version }).setToken(token),
	shardCount: Number(values['shard-count']),
	shardIds: values['shard-ids'].split(',').map(Number),
});
manager.on(WebSocketShardEvents.Error, (error) => console.error(error));
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
await manager.connect();
