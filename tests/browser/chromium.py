"""A headless Chromium, driven by the Chrome DevTools Protocol. It judges nothing."""

import asyncio
import base64
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.processes import WITHIN_S, until

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""As Debian, others and Google name it."""

FLAGS: Final = (
    *("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--no-proxy-server", "--hide-scrollbars", "--remote-debugging-port=0", "--force-color-profile=srgb"),
)


def executable() -> str | None:
    """Return the browser that is installed, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """One tab.

    Attributes:
        console: what was written to the console as an error or a warning, and each exception.
        requested: the URL of every request.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.console: list[str] = []
        self.requested: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            body = json.loads(message.data)
            if (answer := self._answers.pop(body.get("id", 0), None)) is not None:
                if not answer.done():
                    answer.set_result(body)
                continue
            params = body.get("params", {})
            match body.get("method"):
                case "Network.requestWillBeSent":
                    self.requested.append(params["request"]["url"])
                case "Runtime.consoleAPICalled" if params["type"] in {"error", "warning", "assert"}:
                    self.console.append(json.dumps(params["args"]))
                case "Runtime.exceptionThrown":
                    self.console.append(json.dumps(params["exceptionDetails"]))
                case "Log.entryAdded" if params["entry"]["level"] in {"error", "warning"}:
                    self.console.append(json.dumps(params["entry"]))

    async def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        body = await asyncio.wait_for(answer, WITHIN_S)
        assert "error" not in body, body
        result: dict[str, Any] = body["result"]
        return result

    async def open(self, url: str) -> None:
        """Open a page, with its console and its requests listened to from the start."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.do(f"{domain}.enable")
        await self.do("Page.navigate", url=url)
        await self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'", "it is loaded")

    async def value(self, expression: str) -> Any:  # whatever JSON can carry
        """Return what an expression is, in the page."""
        result = await self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, expression: str, what: str) -> Any:  # as above
        """Wait until an expression holds, and return what it is."""

        async def look() -> Any:  # as above
            return await self.value(expression)

        return await until(look, what)

    async def text(self, selector: str) -> str:
        """Return the text of an element as it is shown."""
        text: str = await self.value(f"document.querySelector({json.dumps(selector)}).innerText")
        return text

    async def until_text(self, selector: str, wanted: str) -> str:
        """Wait until an element shows this text, and return all of its text."""
        shown = f"document.querySelector({json.dumps(selector)}).innerText"
        try:
            text: str = await self.until(f"{shown}.includes({json.dumps(wanted)}) && {shown}", f"{selector}: {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {await self.text('body')!r}") from None
        return text

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.do("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        await self.do("Input.dispatchKeyEvent", type="keyUp", **about)

    async def write(self, text: str) -> None:
        """Write into what has the focus."""
        await self.do("Input.insertText", text=text)

    async def picture(self, width: int, height: int, *, dark: bool = False) -> bytes:
        """Return the page at this size as a PNG."""
        await self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.do("Emulation.setEmulatedMedia", features=[scheme])
        await self.value("new Promise(done => setTimeout(() => requestAnimationFrame(done), 1500))")
        shot = await self.do("Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])

    async def close(self) -> None:
        """Close it."""
        await self._socket.close()
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Tab]:
    """Start a browser with an empty profile in this folder, and hand out one tab."""
    program = executable()
    assert program is not None, "no Chromium is installed"
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()  # it refuses to start as root otherwise
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(program, *FLAGS, *sandbox, f"--user-data-dir={folder / 'profile'}", "about:blank"), stdout=log, stderr=log
        )
    port_file = folder / "profile" / "DevToolsActivePort"

    async def port() -> str | None:
        assert process.returncode is None, (folder / "chromium.log").read_text()
        lines = port_file.read_text().splitlines() if port_file.exists() else []
        return lines[0] if len(lines) > 1 else None

    try:
        address = f"http://127.0.0.1:{await until(port, 'Chromium listens')}"
        async with aiohttp.ClientSession() as session:
            async with session.put(f"{address}/json/new?about:blank") as answer:
                url = (await answer.json())["webSocketDebuggerUrl"]
            tab = Tab(await session.ws_connect(url, max_msg_size=0))
            try:
                yield tab
            finally:
                await tab.close()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
