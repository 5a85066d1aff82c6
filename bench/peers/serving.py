"""How the benchmark's own servers are served."""

import os

from starlette.types import ASGIApp, Receive, Send

from carepost.serve import serve
from carepost.supervised import listen


def serve_peer(app: ASGIApp) -> None:
    """As `carepost api` is, on PORT."""
    serve(app, lambda: listen("127.0.0.1", int(os.environ["PORT"])))


async def live(receive: Receive, send: Send) -> None:
    """ASGI's lifespan of an application that needs nothing for it."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
