"""The sandbox SMTP server: a practice's own mail server, on this machine, whose mailbox can be looked into.

    python -m carepost.sandbox.smtp --port 2525 --http-port 2580

It delivers nothing to anybody.
"""

import argparse
import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiosmtpd.smtp import SMTP
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from carepost.sandbox import process
from carepost.sandbox.certificate import server_context
from carepost.sandbox.mailbox import Mailbox
from carepost.sandbox.smtp_handler import ANYBODY, Credentials, SmtpHandler

__all__ = ["Credentials", "RunningSmtp", "SmtpOptions", "main", "running"]

_MAX_EMAIL = 25 * 1024 * 1024
_MECHANISMS = frozenset({"PLAIN", "LOGIN", "XOAUTH2"})


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """What the sandbox SMTP server is started with."""

    starttls: Path | None = None
    """STARTTLS is offered and required, with the certificate in this directory."""
    tls: Path | None = None
    """TLS from the first byte, with the certificate in this directory."""
    credentials: Credentials = ANYBODY
    slow_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class RunningSmtp:
    """Where it listens."""

    host: str
    port: int
    http_url: str
    """Its page, and `/messages`."""


@asynccontextmanager
async def running(
    options: SmtpOptions | None = None, *, host: str = "127.0.0.1", port: int = 0, http_port: int = 0
) -> AsyncIterator[RunningSmtp]:
    """The sandbox SMTP server on its sockets while the block lasts, in the running loop."""
    options = options or SmtpOptions()
    mailbox = Mailbox()
    handler = SmtpHandler(mailbox, options.credentials, slow_seconds=options.slow_seconds)
    loop = asyncio.get_running_loop()
    starttls = server_context(options.starttls) if options.starttls else None
    connections: weakref.WeakSet[SMTP] = weakref.WeakSet()

    def connection() -> SMTP:
        smtp = SMTP(
            handler,
            loop=loop,
            hostname="sandbox.example",
            ident="sandbox",
            data_size_limit=_MAX_EMAIL,
            enable_SMTPUTF8=True,
            tls_context=starttls,
            require_starttls=starttls is not None,
            # Behind TLS from the first byte aiosmtpd believes the connection to be in the clear.
            auth_require_tls=starttls is not None,
            auth_exclude_mechanism=_MECHANISMS - options.credentials.mechanisms,
            authenticator=handler.authenticate,
        )
        connections.add(smtp)
        return smtp

    tls = server_context(options.tls) if options.tls else None
    server = await loop.create_server(connection, host, port, ssl=tls)
    try:
        async with process.serving(_mailbox_app(mailbox), host, http_port) as http_url:
            yield RunningSmtp(host, server.sockets[0].getsockname()[1], http_url)
    finally:
        server.close()
        for smtp in connections:
            if isinstance(smtp.transport, asyncio.Transport):
                smtp.transport.abort()
        await server.wait_closed()


def _mailbox_app(mailbox: Mailbox) -> Starlette:
    async def messages(request: Request) -> Response:
        if request.method == "DELETE":
            mailbox.clear()
            return Response(status_code=204)
        wanted = request.query_params.get("to")
        return JSONResponse([mail.as_json() for mail in mailbox if wanted is None or wanted in mail.recipients])

    async def page(_: Request) -> Response:
        lines = [f"{', '.join(mail.recipients)}  {len(mail.content)} bytes from {mail.mail_from}" for mail in mailbox]
        return PlainTextResponse("\n".join(["Sandbox SMTP server: /messages says more.", "", *reversed(lines)]))

    return Starlette(routes=[Route("/messages", messages, methods=["GET", "DELETE"]), Route("/", page)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs it as a process."""
    parser = argparse.ArgumentParser("python -m carepost.sandbox.smtp", description="A local SMTP server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2525, help="SMTP; 0 binds a free one")
    parser.add_argument("--http-port", type=int, default=2580, help="page and /messages; 0 binds a free one")
    tls = parser.add_mutually_exclusive_group()
    tls.add_argument("--starttls", type=Path, metavar="DIR", help="require STARTTLS; makes certificate.pem in DIR")
    tls.add_argument("--tls", type=Path, metavar="DIR", help="TLS from the first byte; makes certificate.pem in DIR")
    parser.add_argument("--username", help="who must sign in; anybody where it is left out")
    parser.add_argument("--password", help="AUTH PLAIN and LOGIN")
    parser.add_argument("--oauth-token", metavar="TOKEN", help="AUTH XOAUTH2")
    parser.add_argument("--slow-seconds", type=float, default=5.0, metavar="SECONDS", help="what slow@ waits")
    parser.add_argument("--exit-with-stdin", action="store_true", help="exit when stdin ends")
    given = parser.parse_args(arguments)
    if given.username is not None and given.password is None and given.oauth_token is None:
        parser.error("--username needs --password or --oauth-token")
    options = SmtpOptions(
        starttls=given.starttls,
        tls=given.tls,
        credentials=Credentials(given.username, given.password, given.oauth_token),
        slow_seconds=given.slow_seconds,
    )
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd warns of its own ways at each sign-in

    @asynccontextmanager
    async def server() -> AsyncIterator[str]:
        async with running(options, host=given.host, port=given.port, http_port=given.http_port) as smtp:
            scheme = "smtps" if options.tls else "smtp"
            yield f"sandbox-smtp listening on {scheme}://{process.at(smtp.host, smtp.port)} {smtp.http_url}"

    process.run(server, exit_with_stdin=given.exit_with_stdin)


if __name__ == "__main__":
    main()
