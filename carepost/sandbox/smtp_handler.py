"""SmtpHandler: what the sandbox SMTP server answers, decided by addresses and credentials.

aiosmtpd calls the hooks by their names and speaks SMTP itself.
"""

import asyncio
import base64
import binascii
import email
import hashlib
import hmac
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import cast

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, Session

from carepost.sandbox.mailbox import Mailbox
from carepost.sandbox.outcomes import DOMAIN

_REMEMBERED = 10_000  # Message-IDs that a first attempt was made for


class Treatment(Enum):
    """What an address at sandbox.example does to an email; the value is its local part."""

    REFUSED = "refused"
    """Refused for good, at RCPT."""
    GREYLISTED = "greylisted"
    """Refused for now at the first attempt for a Message-ID, then taken."""
    TOO_LARGE = "toolarge"
    """Refused for good after the data."""
    DROPPED = "dropped"
    """Taken, but the connection ends without an answer at the first attempt for a Message-ID."""
    SLOW = "slow"
    """Taken after a while."""


def treatment(address: str) -> Treatment | None:
    """The treatment of an address; None where it is just taken."""
    local, _, domain = address.lower().rpartition("@")
    name = local.partition("+")[0]
    known = {member.value for member in Treatment}
    return Treatment(name) if domain == DOMAIN and name in known else None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may send; all None means anybody, without signing in."""

    username: str | None = None
    password: str | None = None
    oauth_token: str | None = None

    @property
    def mechanisms(self) -> frozenset[str]:
        """The AUTH mechanisms on offer (RFC 4954)."""
        by_password = {"PLAIN", "LOGIN"} if self.password is not None else set()
        return frozenset(by_password | ({"XOAUTH2"} if self.oauth_token is not None else set()))

    def match_password(self, username: bytes, password: bytes) -> bool:
        """Whether these are the user and the password."""
        return (
            self.password is not None
            and hmac.compare_digest(password, self.password.encode())
            and (self.username is None or username == self.username.encode())
        )

    def match_token(self, username: bytes, token: bytes) -> bool:
        """Whether this is the access token."""
        return (
            self.oauth_token is not None
            and hmac.compare_digest(token, self.oauth_token.encode())
            and (self.username is None or username == self.username.encode())
        )


ANYBODY = Credentials()


class SmtpHandler:
    """The hooks of one server; its connections share them."""

    def __init__(self, mailbox: Mailbox, credentials: Credentials, *, slow_seconds: float) -> None:
        self._mailbox = mailbox
        self._credentials = credentials
        self._slow_seconds = slow_seconds
        self._tried: OrderedDict[tuple[Treatment, str], None] = OrderedDict()

    async def handle_EHLO(  # noqa: N802
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        # aiosmtpd offers AUTH with nothing to choose from too, and reads pipelined commands without saying so.
        offered = [line for line in responses if line != "250-AUTH "]
        return [*offered[:-1], "250-PIPELINING", offered[-1]]

    async def handle_MAIL(  # noqa: N802
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._credentials.mechanisms and not session.authenticated:
            return "530 5.7.0 authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if treatment(address) is Treatment.REFUSED:
            return f"550 5.1.1 <{address}>: no such user here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.original_content or b""
        found = {treatment(address) for address in envelope.rcpt_tos}
        identity = _identity(content)
        if Treatment.TOO_LARGE in found:
            return "552 5.3.4 message too big for this mailbox"
        if Treatment.GREYLISTED in found and self._is_first(Treatment.GREYLISTED, identity):
            return "451 4.7.1 greylisted, come back in a few minutes"
        if Treatment.SLOW in found:
            await asyncio.sleep(self._slow_seconds)
        cut = Treatment.DROPPED in found and self._is_first(Treatment.DROPPED, identity)
        self._mailbox.add(
            content,
            mail_from=envelope.mail_from or "",
            recipients=envelope.rcpt_tos,
            login=_login(session),
            tls=server.transport is not None and server.transport.get_extra_info("ssl_object") is not None,
            answered=not cut,
        )
        if cut and isinstance(server.transport, asyncio.Transport):
            server.transport.abort()
            await asyncio.Event().wait()  # until aiosmtpd notices, and cancels
        return f"250 2.0.0 OK queued as {hashlib.sha256(identity.encode()).hexdigest()[:12]}"

    async def auth_XOAUTH2(self, server: SMTP, arguments: Sequence[str]) -> AuthResult:  # noqa: N802
        """Google, "XOAUTH2 Protocol": `user=...^Aauth=Bearer ...^A^A`; a refusal comes as a challenge first."""
        if len(arguments) > 1:
            try:
                answer = base64.b64decode(arguments[1], validate=True)
            except binascii.Error:
                await server.push("501 5.5.2 not base64")
                return AuthResult(success=False)
        else:
            challenged = await server.challenge_auth("")
            if challenged is MISSING:
                return AuthResult(success=False)
            answer = challenged
        parts = dict(part.partition(b"=")[::2] for part in answer.split(b"\x01") if part)
        user, bearer = parts.get(b"user", b""), parts.get(b"auth", b"")
        if self._credentials.match_token(user, bearer.removeprefix(b"Bearer ")):
            return AuthResult(success=True, auth_data=LoginPassword(user, b""))
        await server.challenge_auth(
            json.dumps({"status": "400", "schemes": "Bearer", "scope": "https://mail.google.com/"})
        )
        return AuthResult(success=False, handled=False)

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: LoginPassword
    ) -> AuthResult:
        """For PLAIN and LOGIN."""
        matched = self._credentials.match_password(data.login, data.password)
        return AuthResult(success=matched, handled=False, auth_data=data)

    def _is_first(self, kind: Treatment, identity: str) -> bool:
        if (kind, identity) in self._tried:
            return False
        self._tried[kind, identity] = None
        if len(self._tried) > _REMEMBERED:
            self._tried.popitem(last=False)
        return True


def _identity(content: bytes) -> str:
    """The Message-ID, or where there is none, a digest."""
    return str(email.message_from_bytes(content)["Message-ID"] or hashlib.sha256(content).hexdigest())


def _login(session: Session) -> str | None:
    data = cast("LoginPassword | None", session.auth_data)
    return data.login.decode(errors="replace") if data else None
