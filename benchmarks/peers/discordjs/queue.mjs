// SimpleIdentifyThrottler of @discordjs/ws behind the lines that benchmarks/peers/program_queue.py describes.
import { createInterface } from 'node:readline';
import { SimpleIdentifyThrottler } from '@discordjs/ws';

let throttler;
const waiting = new Map();
for await (const line of createInterface({ input: process.stdin })) {
	const [order, ...numbers] = line.split(' ');
	const [first, second] = numbers.map(Number);
	if (order === 'limits') {
		throttler ??= new SimpleIdentifyThrottler(first); // it has no way to learn another number
	} else if (order === 'ask') {
		const controller = new AbortController();
		waiting.set(first, controller);
		throttler
			.waitForIdentify(second, controller.signal)
			.then(() => console.log(first), () => {})
			.finally(() => waiting.delete(first));
	} else if (order === 'drop') {
		waiting.get(first)?.abort();
	}
}
