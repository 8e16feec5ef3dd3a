"""Where the pages are served when IPv6 is off: on every address of IPv4, and nowhere where neither is to be had."""

import errno
import socket

import pytest
from aiohttp import web

from coordinator.edge import http_server


def addresses(site):
    return site.name.removeprefix("http://")


@pytest.fixture
async def runner():
    made = web.AppRunner(web.Application())
    await made.setup()
    yield made
    await made.cleanup()


def test_every_address_of_both_families_is_one_socket(runner):
    if not socket.has_dualstack_ipv6():
        pytest.skip("IPv6 is off on this machine")
    site = http_server.site_at(runner, "::", 0)
    assert isinstance(site, web.SockSite)
    assert site._sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
    site._sock.close()


def test_a_kernel_without_ipv6_serves_every_address_of_ipv4(runner, monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert addresses(http_server.site_at(runner, "::", 8080)) == "0.0.0.0:8080"


def test_ipv6_switched_off_serves_every_address_of_ipv4(runner, monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    monkeypatch.setattr(socket, "create_server", refuse(errno.EADDRNOTAVAIL))
    assert addresses(http_server.site_at(runner, "::", 8080)) == "0.0.0.0:8080"


def test_a_port_that_is_taken_is_no_reason_to_serve_ipv4_alone(runner, monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    monkeypatch.setattr(socket, "create_server", refuse(errno.EADDRINUSE))
    with pytest.raises(OSError, match="as planted"):
        http_server.site_at(runner, "::", 8080)


def refuse(number):
    def create_server(*_arguments, **_options):
        raise OSError(number, "as planted")

    return create_server
