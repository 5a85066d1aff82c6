"""The sandbox ESP: a local stand-in that speaks SendGrid's wire format, sending and webhooks.

    python -m carepost.sandbox.esp --port 8100

`/v3/...` is SendGrid's; `/`, `/messages` and `/_faults` are for developers and tests.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from carepost.sandbox import outcomes, process, submission
from carepost.sandbox.faults import FaultRefused, Faults
from carepost.sandbox.message import SandboxEvent
from carepost.sandbox.post_office import Account, EspOptions, PostOffice
from carepost.sandbox.submission import Complaint, SubmissionRefused
from carepost.sandbox.webhook import SettingsRefused

__all__ = ["EspOptions", "create_app", "main", "running"]

_MAX_BODY = 30 * 1024 * 1024  # Twilio SendGrid, "Mail Send": the limit on a whole message


class _Esp:
    """The endpoints."""

    def __init__(self, office: PostOffice) -> None:
        self._office = office
        self._faults = Faults()

    async def send(self, request: Request) -> Response:
        account = self._account(request)
        if account is None:
            return _unauthorized()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _errors(415, Complaint("Content-Type must be application/json"))
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY:
                return _errors(413, Complaint("the body is larger than 30 MB"))
        fault = self._faults.take()
        if fault and fault.hold_ms:
            await asyncio.sleep(fault.hold_ms / 1000)
        if fault and fault.send_status:
            headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else None
            return _errors(fault.send_status, Complaint("a fault that was asked for"), headers=headers)
        try:
            asked = submission.read(bytes(body))
        except SubmissionRefused as refusal:
            return _errors(400, *refusal.complaints)
        if asked.dry_run:
            return Response(status_code=200)
        message_id = self._office.accept(asked, account)
        if fault and fault.drop_after_accept:
            request.scope[process.CONNECTION].abort()
            while (await request.receive())["type"] != "http.disconnect":
                pass
        return Response(status_code=202, headers={"X-Message-Id": message_id})

    async def settings(self, request: Request) -> Response:
        return await self._on_webhook(request, signing=False)

    async def signing(self, request: Request) -> Response:
        return await self._on_webhook(request, signing=True)

    async def _on_webhook(self, request: Request, *, signing: bool) -> Response:
        account = self._account(request)
        if account is None:
            return _unauthorized()
        webhook = account.webhook
        # Without an id SendGrid means the oldest webhook; here a key has one.
        if request.path_params.get("id", webhook.id) != webhook.id:
            return _errors(404, Complaint("no such webhook", "id"))
        if request.method == "PATCH":
            try:
                wish = await _object(request)
                if not signing:
                    webhook.update(wish)
                elif isinstance(enabled := wish.get("enabled"), bool):
                    webhook.signed = enabled
                else:
                    raise SettingsRefused("enabled must be true or false")
            except (ValueError, SettingsRefused) as problem:
                return _errors(400, Complaint(str(problem)))
        shown = {"id": webhook.id, "public_key": webhook.public_key} if signing else webhook.as_json()
        return JSONResponse(shown)

    async def messages(self, request: Request) -> Response:
        found = [
            message
            for message in self._office.messages
            if request.query_params.get("to") in {None, message.recipient.email}
        ]
        return JSONResponse([message.as_json() for message in found])

    async def page(self, _: Request) -> Response:
        lines = [f"Sandbox ESP: {self._office.accepted} accepted; /messages says more.", ""]
        for message in reversed(self._office.messages):
            events = [f"{event.body['event']} ({_answers(event)})" for event in message.events]
            lines.append(f"{message.recipient.email}  {message.outcome}: {', '.join(events)}")
        return PlainTextResponse("\n".join(lines))

    async def faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.clear()
            return Response(status_code=204)
        try:
            self._faults.add(await _object(request))
        except (ValueError, FaultRefused) as problem:
            return _errors(400, Complaint(str(problem)))
        return Response(status_code=204)

    def _account(self, request: Request) -> Account | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return self._office.account(key.strip()) if scheme.lower() == "bearer" else None


def create_app(options: EspOptions | None = None) -> Starlette:
    """The sandbox ESP as an ASGI app; it needs its lifespan run."""
    office = PostOffice(options or EspOptions())
    esp = _Esp(office)
    settings, methods = "/v3/user/webhooks/event/settings", ["GET", "PATCH"]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await office.close()

    return Starlette(
        routes=[
            Route("/v3/mail/send", esp.send, methods=["POST"]),
            Route(f"{settings}/signed", esp.signing, methods=methods),
            Route(f"{settings}/signed/{{id}}", esp.signing, methods=methods),
            Route(settings, esp.settings, methods=methods),
            Route(f"{settings}/{{id}}", esp.settings, methods=methods),
            Route("/", esp.page),
            Route("/messages", esp.messages),
            Route("/_faults", esp.faults, methods=["POST", "DELETE"]),
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


def _errors(status: int, *complaints: Complaint, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"errors": [complaint.as_json() for complaint in complaints]}, status, headers)


def _unauthorized() -> Response:
    return _errors(401, Complaint("the API key is missing or unknown"))


async def _object(request: Request) -> Mapping[str, object]:
    """The body; raises ValueError unless it is a JSON object."""
    value = json.loads(await request.body())
    if not isinstance(value, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs it as a process."""
    parser = argparse.ArgumentParser("python -m carepost.sandbox.esp", description="A local ESP in SendGrid's format.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100, help="0 binds a free one")
    parser.add_argument(
        "--api-key", action="append", metavar="KEY", help="a key to accept (repeatable; default SG.sandbox)"
    )
    parser.add_argument(
        "--webhook-url", action="append", default=[], metavar="URL", help="where events go: the nth is the nth key's"
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
