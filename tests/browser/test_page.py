"""The page in a real browser, of a real coordinator with shards that wait."""

import asyncio
import socket

import pytest

from tests.browser.chromium import chromium, executable
from tests.browser.scene import SceneShard
from tests.processes import until

pytestmark = pytest.mark.skipif(
    executable() is None, reason="Chromium is not installed; on Debian: apt-get install chromium"
)

HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
ENTER = 13
TAB = 9


@pytest.fixture
def port():
    """A free port: after a restart the page is at the same address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
async def served(start_coordinator, port):
    """A coordinator with two buckets, and the address of its page."""
    process = await start_coordinator(IDENTIFY_HTTP_PORT=str(port), IDENTIFY_MAX_CONCURRENCY="2")
    return process, f"http://127.0.0.1:{port}/"


@pytest.fixture
async def tab(tmp_path):
    async with chromium(tmp_path) as opened:
        yield opened


@pytest.fixture
async def fleet(client):
    """Start shards: `fleet(1, 3, client="pod")`; they go on to the end of the test."""
    tasks: list[asyncio.Task[None]] = []

    def start(*numbers, **about):
        shards = [SceneShard(client, number, 2, **{"client": "pod", **about}) for number in numbers]
        tasks.extend(asyncio.create_task(shard.run()) for shard in shards)
        return shards

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def search(tab, text):
    """Look something up with the keyboard alone."""
    await tab.value("document.getElementById('find-text').value = ''")
    await tab.value("document.getElementById('find-text').focus()")
    await tab.write(text)
    await tab.press("Enter", ENTER, "\r")


async def test_it_shows_who_leads_why_a_shard_waits_and_a_grant_when_it_happens(
    tab, mailbox, client, fleet, start_coordinator
):
    process = await start_coordinator(IDENTIFY_MAX_CONCURRENCY="2", IDENTIFY_USE_WITHIN="60", IDENTIFY_WINDOW="5")
    address = process.logged("HTTP is served")[-1]["addresses"][0]
    _, first = await mailbox.until_granted("first", shard_id=0)
    fleet(4, client="shards-4", think_s=600)  # has its turn to the end of the test
    await tab.open(f"http://{address}/")
    await tab.until_text("#fact-leader", "pod-0")
    assert "Served by pod-0, which leads." in await tab.text("#served")
    await tab.until_text("#fact-waiting", "1 request")
    await search(tab, "4")
    found = await tab.until_text("#found", "Shard 4 is next in bucket 0")
    assert "Two IDENTIFYs of one bucket must be a window apart" in found
    assert "Client shards-4" in found
    assert await tab.value("document.getElementById('found-said').textContent.startsWith('Shard 4 is next')")
    await client.publish(first.reply, b'{"outcome": "declined"}')  # the bucket is free at once
    await client.publish("identify.cancel.0", b'{"request_id": "first"}')
    await tab.until_text("#found", "Shard 4 has its turn, and has not confirmed its IDENTIFY yet.")
    await tab.until_text("#events", "declined its turn")
    await tab.until("document.querySelectorAll('#timeline .granted-mark').length >= 1", "the grant is drawn")
    assert tab.console == []
    assert {request.split("/")[2] for request in tab.requested} == {address}


async def test_names_of_clients_are_text(served, tab, fleet):
    """A name may be HTML: it is shown as it was given, and nothing of it is loaded or run."""
    _, url = served
    fleet(0, 2, 4, 6, client=HOSTILE, think_s=0.8)
    await tab.open(url)
    await tab.until_text("#buckets", HOSTILE)
    await tab.until_text("#events", HOSTILE)
    await search(tab, HOSTILE)
    await tab.until_text("#found", HOSTILE)
    assert await tab.value("document.images.length + document.scripts.length") == 1  # its own script
    assert "waiting" in await tab.value("document.title")
    assert not [request for request in tab.requested if request.endswith("/x")]
    assert tab.console == []


async def test_a_script_that_is_not_its_own_does_not_run(served, tab):
    """The content security policy holds in a real browser."""
    _, url = served
    await tab.open(url)
    await tab.until_text("#fact-leader", "pod-0")
    for script in ("document.body.innerHTML = '<b>x</b>'", "document.body.setAttribute('onclick', 'x')"):
        tried = f"(() => {{ try {{ {script}; return 'taken' }} catch (error) {{ return error.name }} }})()"
        assert await tab.value(tried) == "TypeError", script


async def test_it_says_that_the_connection_is_lost_and_goes_on_after_a_restart(
    served, tab, fleet, start_coordinator, port
):
    process, url = served
    fleet(0, 1, 2, 3)
    await tab.open(url)
    await tab.until_text("#events", "READY")
    assert tab.console == []
    await process.end()
    await tab.until_text("#connection", "connection lost since")
    assert "what is shown is of then" in await tab.text("#connection")
    assert "READY" in await tab.text("#events")
    await start_coordinator(IDENTIFY_HTTP_PORT=str(port), IDENTIFY_MAX_CONCURRENCY="2", IDENTIFY_REPLICA_NAME="pod-9")
    await tab.until_text("#connection", "live")
    await tab.until_text("#fact-leader", "pod-9")
    assert "READY" in await tab.text("#events")  # what it has seen stays
    assert not [
        line for line in tab.console if "net::ERR" not in line
    ]  # the browser's own word for a refused connection


async def test_a_standby_says_that_it_is_one_and_names_the_leader(tab, start_coordinator, fleet):
    """It has no events of the leader; what it sees of the grants it draws."""
    settings = {"IDENTIFY_MAX_CONCURRENCY": "2", "IDENTIFY_WINDOW": "2"}
    await start_coordinator(**settings)
    standby = await start_coordinator(until_leader=False, **settings)
    await until(standby.is_ready, "it is ready")
    address = standby.logged("HTTP is served")[-1]["addresses"][0]
    await tab.open(f"http://{address}/")
    fleet(*range(20))
    await tab.until_text("#served", "Served by pod-1, a standby.")
    await tab.until_text("#fact-leader", "pod-0")
    await tab.until_text("#buckets", "(pod)")
    assert "The leader publishes the events: those of now are on the page of pod-0." in await tab.text("#events-note")
    await tab.until("document.querySelectorAll('#timeline .window-bar').length > 2", "grants are drawn")
    assert tab.console == []


async def test_a_minute_can_be_chosen_and_troubles_alone_shown(served, tab, fleet):
    _, url = served
    fleet(0, outcomes=("rejected", "ready"))
    fleet(1, client="pod-1")
    await tab.open(url)
    await tab.until_text("#events", "Invalid Session")
    await choose(tab, "kind", "trouble")
    await tab.until(
        "[...document.querySelectorAll('#events .what')].every(one => one.innerText === 'Invalid Session')", "only that"
    )
    minute = await tab.value("document.querySelector('#minute option:nth-child(2)').value")
    await choose(tab, "minute", minute)
    await tab.until_text("#events-note", "In the minute of ")
    await choose(tab, "kind", "all")
    await tab.value("document.getElementById('event-text').value = 'pod-1'")
    await choose(tab, "event-text", "pod-1")
    await tab.until(
        "[...document.querySelectorAll('#events tr')].every(row => row.innerText.includes('pod-1'))", "only that"
    )


async def choose(tab, element, value):
    await tab.value(
        f"(() => {{ const it = document.getElementById('{element}'); it.value = '{value}'; "
        "it.dispatchEvent(new Event('input')) })()"
    )


async def test_the_keyboard_reaches_everything_in_the_order_of_the_page(served, tab):
    _, url = served
    await tab.open(url)
    await tab.until_text("#fact-leader", "pod-0")
    reached: list[str] = []
    named = "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
    while "event-text" not in reached and len(reached) < 20:
        await tab.press("Tab", TAB)
        reached.append(await tab.value(named))
    assert reached[:3] == ["skip", "find-text", "BUTTON"]
    assert [name for name in reached if name in {"minute", "kind", "event-text"}] == ["minute", "kind", "event-text"]
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert await tab.value(outline) == "solid"


@pytest.mark.parametrize("width", [390, 1200])
async def test_nothing_is_wider_than_the_screen(served, tab, fleet, width):
    _, url = served
    fleet(0, 2, 4, 6, 8, client="a-client-with-a-very-long-name-" * 4)
    await tab.open(url)
    await tab.until_text("#buckets", "a-client-with")
    await tab.do("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    await tab.until(f"innerWidth === {width}", "it is that wide")
    await search(tab, "8")
    await tab.until_text("#found", "Shard 8")
    await tab.until("document.documentElement.scrollWidth <= innerWidth", "nothing sticks out")
