"""Points a bot library at a simulated gateway, before a bot is made; it undoes nothing."""

from importlib import import_module
from typing import Any


def redirect(package: str, *, rest_url: str, gateway_url: str) -> None:
    """Let every bot of this process that uses the library log in at these addresses.

    Args:
        package: how the library is imported: ``discord``, ``disnake``, ``nextcord``, ``hikari`` or ``interactions``.
        rest_url: `SimulatedGateway.rest_url`.
        gateway_url: `SimulatedGateway.ws_url`.
    """
    if package == "hikari":
        urls: Any = import_module("hikari.urls")
        urls.REST_API_URL = rest_url  # it asks for the gateway there
        return
    if package == "interactions":
        import_module("interactions.api.http.route").Route.BASE = rest_url  # as above
        return
    route = import_module(f"{package}.http").Route
    setattr(route, "BASE" if hasattr(route, "BASE") else "base", rest_url)  # py-cord has the latter, a property
    websocket = import_module(f"{package}.gateway").DiscordWebSocket
    if hasattr(websocket, "DEFAULT_GATEWAY"):  # discord.py; the others ask GET /gateway
        websocket.DEFAULT_GATEWAY = type(websocket.DEFAULT_GATEWAY)(gateway_url)
