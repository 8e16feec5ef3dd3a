"""The nats-server that tests and `nats-identify up` start: what stands in its way is said, and its store is freed."""

import pytest

from nats_identify.processes import nats_server
from nats_identify.processes.nats_server import EmbeddedNats, NatsServerError


async def test_a_program_that_cannot_be_run_is_named_and_the_store_is_free_after_it(tmp_path, monkeypatch):
    program = tmp_path / "nats-server"
    program.write_text("")
    server = EmbeddedNats(tmp_path / "store")
    with monkeypatch.context() as patched:
        patched.setattr(nats_server, "find_nats_server", lambda: program)
        with pytest.raises(NatsServerError, match=f"{program} cannot be started"):
            await server.start()
    async with EmbeddedNats(server.store_dir) as another:
        assert another.pid


async def test_a_configuration_that_cannot_be_written_is_said(tmp_path):
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    (store / "nats-server.new").mkdir()
    with pytest.raises(NatsServerError, match="cannot be started on"):
        await EmbeddedNats(store).start()
    (store / "nats-server.new").rmdir()
    async with EmbeddedNats(store) as another:
        assert another.pid
