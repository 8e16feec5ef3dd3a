"""Takes a test's orders over HTTP, for a gateway that runs as a process of its own; it decides nothing.

``POST /orders/drop`` with ``{"shard_id": 3}`` calls ``gateway.drop(shard_id=3)``, and so on.
"""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

Order = Callable[..., Awaitable[None] | None]


def order_route(orders: Mapping[str, Order]) -> web.RouteDef:
    """Return the route that carries out these orders, each by its name.

    It answers 204; 404 and the names that it knows to any other name; 400 and the reason to an order that
    cannot be.
    """

    async def take(request: web.Request) -> web.Response:
        order = orders.get(request.match_info["name"])
        if order is None:
            raise web.HTTPNotFound(text=f"the orders are {', '.join(sorted(orders))}")
        try:
            arguments = await request.json() if request.can_read_body else {}
            outcome = order(**arguments)
            if outcome is not None:
                await outcome
        except (TypeError, ValueError, LookupError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.Response(status=204)

    return web.post("/orders/{name}", take)
