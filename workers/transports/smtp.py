"""SMTP to the practice's own servers: kept-open connections for each account, a bounded number at once.

RFC 5321 (protocol), RFC 6531 (SMTPUTF8), RFC 6409 (submission).
"""

import asyncio
import re
import ssl
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Self

import aiosmtplib
from aiosmtplib.email import quote_address

from mail.failure import Failure, FailureKind, failure_from_reply, one_line
from mail.message import Email
from mail.mime import is_rendered, render
from mail.providers.base import Accepted, Answer, Refused, TryAgain
from mail.servers import AccessToken, Security, SmtpServer, read_token, token_request
from workers.errors import TransportAmbiguous, TransportUnavailable
from workers.transports.http import HttpTransport
from workers.transports.outgoing import Outgoing

CONNECTIONS_PER_SERVER: Final = 4
_TIMEOUT: Final = 30.0
_IDLE_LIMIT: Final = 30.0
_TOKEN_MARGIN: Final = 60.0
_LONG: Final = 50_000
_BARE: Final = re.compile(r"[^\s<>()\[\],:;\\\"\x00-\x1f\x7f]+")


@dataclass(slots=True)
class _Connection:
    client: aiosmtplib.SMTP
    used_at: float


@dataclass(slots=True)
class _Parcel:
    """An email on its way; once its content has `left`, it may have been taken."""

    email: Email
    content: bytes
    left: bool = False


@dataclass(frozen=True, slots=True)
class SmtpOffer:
    """What a server says of itself in its answer to EHLO: the bytes an email may have, None where it sets no limit
    (RFC 1870), and the names of its extensions in lower case."""

    size: int | None
    extensions: frozenset[str]


@dataclass(slots=True)
class _ServerPool:
    """Connections to one server under one login."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS_PER_SERVER))
    idle: list[_Connection] = field(default_factory=list)


class SmtpTransport:
    """Hands emails over. Use as an async context manager; `http` fetches access tokens for XOAUTH2. Raises
    `TransportRefused` for servers that `outgoing` forbids."""

    def __init__(self, http: HttpTransport, outgoing: Outgoing) -> None:
        self._http = http
        self._outgoing = outgoing
        self._pools: dict[SmtpServer, _ServerPool] = defaultdict(_ServerPool)
        self._tokens: dict[SmtpServer, tuple[AccessToken, float]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for pool in self._pools.values():
            for connection in pool.idle:
                await _quit(connection.client)

    async def send(self, server: SmtpServer, email: Email, *, within: timedelta) -> Answer:
        """What the server said. Raises `TransportUnavailable` and `TransportAmbiguous`."""
        parcel = _Parcel(email, await _rendered(email))
        try:
            async with asyncio.timeout(within.total_seconds()):
                return await self._send(server, parcel)
        except TimeoutError as error:
            failure = Failure(FailureKind.UNREACHABLE, reason="The mail server took too long to answer.")
            raise (TransportAmbiguous if parcel.left else TransportUnavailable)(failure) from error

    async def probe(self, server: SmtpServer) -> SmtpOffer:
        """Connects, encrypts and signs in as for sending, and sends nothing; what the server offers. Raises
        `TransportRefused` and `TransportUnavailable`."""
        client = await self._connect(server)
        size = client.esmtp_extensions.get("size", "").strip()
        offer = SmtpOffer(int(size) if size.isdigit() and int(size) else None, frozenset(client.esmtp_extensions))
        await _quit(client)
        return offer

    async def _send(self, server: SmtpServer, parcel: _Parcel) -> Answer:
        pool = self._pools[server]
        async with pool.slots:
            while True:
                connection, reused = await self._connection(server, pool)
                try:
                    answer = await _hand_over(connection.client, parcel)
                except TransportUnavailable:
                    connection.client.close()
                    if reused:
                        # The server closed the connection while it was idle; nothing was handed over.
                        continue
                    raise
                except BaseException:
                    connection.client.close()
                    raise
                if connection.client.is_connected:
                    connection.used_at = time.monotonic()
                    pool.idle.append(connection)
                return answer

    async def _connection(self, server: SmtpServer, pool: _ServerPool) -> tuple[_Connection, bool]:
        while pool.idle:
            connection = pool.idle.pop()
            if connection.client.is_connected and time.monotonic() - connection.used_at < _IDLE_LIMIT:
                return connection, True
            await _quit(connection.client)
        return _Connection(await self._connect(server), time.monotonic()), False

    async def _connect(self, server: SmtpServer) -> aiosmtplib.SMTP:
        token = await self._access_token(server) if server.oauth else None
        try:
            async with asyncio.timeout(_TIMEOUT):
                sock = await self._outgoing.connect(server.host, server.port)
        except OSError as error:  # of which a TimeoutError is one
            raise TransportUnavailable(_unreachable(error)) from error
        client = aiosmtplib.SMTP(
            hostname=server.host,
            sock=sock,
            use_tls=server.security is Security.TLS,
            start_tls=server.security is Security.STARTTLS,
            tls_context=None if server.security is Security.NONE else _tls_context(server),
            timeout=_TIMEOUT,
        )
        try:
            await client.connect()
            await _greet(client)
            if token is not None:
                await client.auth_xoauth2(server.username, token.value)
            elif server.username:
                await client.login(server.username, server.password)
        except aiosmtplib.SMTPAuthenticationError as error:
            client.close()
            self._tokens.pop(server, None)
            failure = failure_from_reply(
                f"{error.code} {error.message}", smtp_code=error.code, kind=FailureKind.ACCOUNT
            )
            raise TransportUnavailable(failure) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            client.close()
            raise TransportUnavailable(_unreachable(error)) from error
        except BaseException:
            client.close()
            raise
        return client

    async def _access_token(self, server: SmtpServer) -> AccessToken:
        assert server.oauth is not None
        held = self._tokens.get(server)
        if held is not None and time.monotonic() < held[1]:
            return held[0]
        try:
            response = await self._http.send(token_request(server.oauth))
        except TransportAmbiguous as error:
            raise TransportUnavailable(error.failure) from error
        token = read_token(response)
        if isinstance(token, Failure):
            raise TransportUnavailable(token)
        self._tokens[server] = (token, time.monotonic() + token.seconds - _TOKEN_MARGIN)
        return token


async def _rendered(email: Email) -> bytes:
    """The email as bytes. The longest take seconds, during which other emails go on."""
    if len(email.text) + len(email.html or "") < _LONG or is_rendered(email.text, email.html):
        return render(email)
    return await asyncio.to_thread(render, email)


async def _greet(client: aiosmtplib.SMTP) -> None:
    """EHLO, by whose answer alone we know what the server can do; HELO for one that is older than that (RFC 1869)."""
    if client.is_ehlo_or_helo_needed:
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError:
            if not client.is_connected:
                raise
            await client.helo()


async def _hand_over(client: aiosmtplib.SMTP, parcel: _Parcel) -> Answer:
    """MAIL, RCPT and DATA (RFC 5321 section 3.3), step by step, to know whether the content had left. The steps have no
    times of their own, each a timer and a future: `send` bounds them all."""
    email = parcel.email
    needs_utf8 = not (email.sender.email.isascii() and email.recipient.email.isascii())
    if needs_utf8 and not client.supports_extension("SMTPUTF8"):
        return Refused(Failure(FailureKind.POLICY, reason="The mail server takes no non-ASCII addresses (RFC 6531)."))
    options = [f"SIZE={len(parcel.content)}"] if client.supports_extension("SIZE") else []
    if needs_utf8:
        options += ["SMTPUTF8", "BODY=8BITMIME"]
    encoding = "utf-8" if needs_utf8 else "ascii"
    try:
        await _name(client, b"MAIL", b"FROM:", email.sender.email, encoding, options)
        await _name(client, b"RCPT", b"TO:", email.recipient.email, encoding)
        go_on = await client.execute_command(b"DATA", timeout=None)
        if go_on.code != 354:
            raise aiosmtplib.SMTPResponseException(go_on.code, go_on.message)
    except aiosmtplib.SMTPResponseException as error:
        if error.code == 421:
            # The channel closes (RFC 5321 section 3.8): idle for too long, or enough emails for one connection.
            raise TransportUnavailable(_failure(error)) from error
        return await _reset(client, error)
    except (aiosmtplib.SMTPException, OSError) as error:
        raise TransportUnavailable(_unreachable(error)) from error
    parcel.left = True
    try:
        reply = await _give(client, parcel.content)
    except (aiosmtplib.SMTPException, OSError) as error:
        raise TransportAmbiguous(_unreachable(error)) from error
    # Its first digit says what it means (RFC 5321 section 4.2.1).
    if 200 <= reply.code < 300:
        return Accepted(None, one_line(f"{reply.code} {reply.message}"))
    said = aiosmtplib.SMTPResponseException(reply.code, reply.message)
    if 400 <= reply.code < 600:
        return await _reset(client, said)
    raise TransportAmbiguous(_failure(said))


async def _name(
    client: aiosmtplib.SMTP, verb: bytes, word: bytes, address: str, encoding: str, options: Sequence[str] = ()
) -> None:
    """MAIL or RCPT; raises `SMTPResponseException` for a refusal. aiosmtplib's own methods take the address for free
    text and parse it; ours were checked when they were stored, which saves a seventh of an email's time."""
    path = f"<{address}>" if _BARE.fullmatch(address) else quote_address(address)
    response = await client.execute_command(
        verb, word + path.encode(encoding), *(option.encode("ascii") for option in options), timeout=None
    )
    if response.code not in {250, 251}:
        raise aiosmtplib.SMTPResponseException(response.code, response.message)


async def _give(client: aiosmtplib.SMTP, content: bytes) -> aiosmtplib.SMTPResponse:
    """The content, once the server has asked for it. aiosmtplib's own way looks at each line for its end and for a
    dot; ours end as they should, and dots are seldom (RFC 5321 section 4.5.2)."""
    protocol = client.protocol
    if protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("Connection lost")
    protocol.write(as_data(content))
    return await protocol.read_response()


def as_data(content: bytes) -> bytes:
    """What `mail.mime.render` gives, as it goes over the wire: dots doubled where a line begins with one, and the end
    of it."""
    return (content.replace(b"\r\n.", b"\r\n..") if b"\n." in content else content) + b".\r\n"


async def _reset(client: aiosmtplib.SMTP, error: aiosmtplib.SMTPResponseException) -> Answer:
    """A refusal, after which the connection is made fit for the next email or closed."""
    try:
        await client.rset()
    except (aiosmtplib.SMTPException, OSError):
        client.close()
    failure = _failure(error)
    # 421 closes the channel and 4yz may pass (RFC 5321 section 4.2.1); 535 and the like were caught at login. What is
    # no answer at all refuses nothing for good.
    return Refused(failure) if 500 <= error.code < 600 else TryAgain(failure)


def _tls_context(server: SmtpServer) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=server.ca or None)
    if server.ca:
        context.load_default_certs()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _failure(error: aiosmtplib.SMTPResponseException) -> Failure:
    return failure_from_reply(f"{error.code} {error.message}", smtp_code=error.code)


def _unreachable(error: Exception) -> Failure:
    return failure_from_reply(f"{type(error).__name__}: {error}", kind=FailureKind.UNREACHABLE)


async def _quit(client: aiosmtplib.SMTP) -> None:
    try:
        await asyncio.wait_for(client.quit(), 2)
    except (aiosmtplib.SMTPException, OSError, TimeoutError):
        client.close()
