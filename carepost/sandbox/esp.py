"""The sandbox ESP: a local stand-in that speaks five vendors' wire formats, sending and webhooks.

    python -m carepost.sandbox.esp --port 8100

Each vendor's endpoints stand at the paths that it documents; `/`, `/messages` and `/_faults` are for developers and
tests.
"""

import argparse
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from carepost.sandbox import outcomes, process
from carepost.sandbox.faults import FaultRefused, Faults
from carepost.sandbox.message import SandboxEvent
from carepost.sandbox.post_office import EspOptions, PostOffice
from carepost.sandbox.vendors import VENDORS
from carepost.sandbox.vendors.base import json_object

__all__ = ["EspOptions", "create_app", "main", "running"]


class _Desk:
    """The endpoints that no vendor has."""

    def __init__(self, office: PostOffice, faults: Faults) -> None:
        self._office = office
        self._faults = faults

    async def messages(self, request: Request) -> Response:
        asked = request.query_params
        found = [
            message
            for message in self._office.messages
            if asked.get("to") in {None, message.letter.recipient} and asked.get("vendor") in {None, message.vendor}
        ]
        return JSONResponse([message.as_json() for message in found])

    async def page(self, _: Request) -> Response:
        lines = [f"Sandbox ESP: {self._office.accepted} accepted; /messages says more.", ""]
        for message in reversed(self._office.messages):
            events = [
                f"{event.happening.value} ({_answers(event)})"
                for event in message.events
                if event.happening is not None
            ]
            lines.append(
                f"{message.vendor:<10}  {message.letter.recipient}  {message.outcome}: {', '.join(events)}".rstrip()
            )
        return PlainTextResponse("\n".join(lines))

    async def faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.clear()
            return Response(status_code=204)
        try:
            self._faults.add(json_object(await request.body()))
        except (ValueError, FaultRefused) as problem:
            return JSONResponse({"error": str(problem)}, 400)
        return Response(status_code=204)


def create_app(options: EspOptions | None = None) -> Starlette:
    """The sandbox ESP as an ASGI app; it needs its lifespan run."""
    office, faults = PostOffice(options or EspOptions()), Faults(frozenset(VENDORS))
    desk = _Desk(office, faults)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await office.close()

    return Starlette(
        routes=[
            # Amazon SNS has its actions at / too: the vendors come first.
            *(route for vendor in VENDORS.values() for route in vendor(office, faults).routes()),
            Route("/", desk.page),
            Route("/messages", desk.messages),
            Route("/_faults", desk.faults, methods=["POST", "DELETE"]),
        ],
        lifespan=lifespan,
    )


def running(
    options: EspOptions | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AbstractAsyncContextManager[str]:
    """The sandbox ESP on a socket while the block lasts; gives its base URL."""
    return process.serving(create_app(options), host, port)


def _answers(event: SandboxEvent) -> str:
    if not event.posts:
        return "not posted"
    last = event.posts[-1]
    return f"{last.status or last.error}, POST {len(event.posts)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs it as a process."""
    parser = argparse.ArgumentParser(
        "python -m carepost.sandbox.esp", description="A local ESP, in five vendors' formats."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100, help="0 binds a free one")
    parser.add_argument(
        "--api-key", action="append", metavar="KEY", help="a SendGrid key to accept (repeatable; default SG.sandbox)"
    )
    parser.add_argument(
        "--webhook-url",
        action="append",
        default=[],
        metavar="URL",
        help="where SendGrid's events go: nth URL, nth key",
    )
    parser.add_argument("--key-file", type=Path, metavar="PATH", help="keeps the signing keys over a restart")
    parser.add_argument("--seed", help="makes the random mix repeatable")
    parser.add_argument("--speed", type=_positive, default=1.0, metavar="FACTOR", help="so many times as fast")
    parser.add_argument(
        "--max-delay",
        type=_positive,
        default=outcomes.FULL_SECONDS,
        metavar="SECONDS",
        help="all is posted by then (20)",
    )
    parser.add_argument("--retry-for", type=_positive, default=900.0, metavar="SECONDS", help="of a refused POST (900)")
    parser.add_argument("--exit-with-stdin", action="store_true", help="exit when stdin ends")
    given = parser.parse_args(arguments)
    options = EspOptions(
        api_keys=given.api_key or EspOptions().api_keys,
        webhook_urls=given.webhook_url,
        key_file=given.key_file,
        seed=given.seed,
        speed=given.speed,
        max_delay=given.max_delay,
        retry_for=given.retry_for,
    )

    @asynccontextmanager
    async def server() -> AsyncIterator[str]:
        async with running(options, host=given.host, port=given.port) as url:
            yield f"sandbox-esp listening on {url}"

    process.run(server, exit_with_stdin=given.exit_with_stdin)


def _positive(text: str) -> float:
    number = float(text)
    if number <= 0:
        raise argparse.ArgumentTypeError("must be more than nought")
    return number


if __name__ == "__main__":
    main()
