"""Pages: static files, with headers that let each page run its own scripts and nothing else."""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

_HEADERS: Final = {
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Page:
    """`index.html` of a folder, and as an ASGI application the folder's files. `policy` is what the page needs besides
    its own scripts, styles, images and frames, by directive of its Content-Security-Policy."""

    def __init__(self, folder: str, **policy: str) -> None:
        self._folder = Path(__file__).parent / folder
        self._files = StaticFiles(directory=self._folder)
        allowed = {
            "default_src": "'none'",
            "script_src": "'self'",
            "style_src": "'self'",
            "connect_src": "'self'",
            "img_src": "'self' data:",
            "frame_src": "'self'",
            "base_uri": "'none'",
            "form_action": "'none'",
            "frame_ancestors": "'none'",
        } | policy
        rules = "; ".join(f"{name.replace('_', '-')} {sources}" for name, sources in allowed.items())
        self._headers = {"content-security-policy": rules} | _HEADERS

    async def index(self, request: Request) -> Response:
        """The page itself."""
        return FileResponse(self._folder / "index.html", headers=self._headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in self._headers.items()]
            await send(message)

        await self._files(scope, receive, send_with_headers)
