"""How the benchmark's own servers are served."""

import os

from starlette.types import ASGIApp

from carepost.serve import serve
from carepost.supervised import listen


def serve_peer(app: ASGIApp) -> None:
    """As `carepost api` is, on PORT."""
    serve(app, lambda: listen("127.0.0.1", int(os.environ["PORT"])))
