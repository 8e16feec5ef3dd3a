"""What a real coordinator says of a shard that loops, however often its client asks."""

import asyncio
import os

ASKS = int(os.environ.get("CRASH_LOOP_ASKS", "60"))
"""Ten a second."""


async def test_a_loop_is_announced_once_however_often_its_client_asks_anew(start_coordinator, client, mailbox):
    coordinator = await start_coordinator(IDENTIFY_CRASH_LOOP_GRANTS="2", IDENTIFY_MARGIN="0", IDENTIFY_WINDOW="0.2")
    announced = await client.subscribe("identify.event.crash_loop")
    for number in range(2):
        await mailbox.ask(0, managed=True, request_id=f"free-{number}", renewal=number)
        _, message = await mailbox.next("granted")
        await message.respond(b"")
    for number in range(ASKS):
        await mailbox.ask(0, managed=True, request_id=f"held-{number}", client="pod-a")
        queued, _ = await mailbox.next("queued")
        assert queued["reason"] == "crash_loop"
        await client.publish("identify.cancel.0", f'{{"request_id": "held-{number}"}}'.encode())
        await asyncio.sleep(0.1)  # between two asks
    lines = coordinator.logged("crash_loop")
    print(f"\n{len(lines)} lines, {announced.pending_msgs} events for {ASKS} asks")  # noqa: T201  # a measurement
    assert len(lines) == announced.pending_msgs == 1
    assert lines[0]["level"] == "warning"
