"""What the vendors' endpoints have in common: a vendor is its routes, and a counter at which emails are handed in."""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from carepost.sandbox import process
from carepost.sandbox.faults import Fault, Faults
from carepost.sandbox.message import Letter
from carepost.sandbox.post_office import Account, PostOffice

Endpoint = Callable[[Request], Awaitable[Response]]

ADDRESS = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+")
_MAILBOX = re.compile(r'\s*(?:(?P<name>"(?:[^"\\]|\\.)*"|[^<>"]*?)\s*<(?P<angle>[^<>]*)>|(?P<bare>[^<>\s"]+))\s*')


class Vendor(Protocol):
    """One ESP as the sandbox plays it."""

    name: str
    """As Carepost calls it: `sendgrid`."""

    def routes(self) -> Sequence[BaseRoute]:
        """Its endpoints, at the paths that the vendor documents."""


class RouteWhen(Route):
    """A route that is one only for some requests, where two vendors have the same path."""

    def __init__(self, path: str, endpoint: Endpoint, methods: Sequence[str], when: Callable[[Request], bool]) -> None:
        super().__init__(path, endpoint, methods=list(methods))
        self._when = when

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and not self._when(Request(scope)):
            return Match.NONE, {}
        return super().matches(scope)


class TooLarge(Exception):
    """A body is longer than the vendor takes."""


class Counter:
    """Where the letters of one vendor are handed in, and what goes wrong there."""

    def __init__(self, office: PostOffice, faults: Faults, vendor: str) -> None:
        self._office = office
        self._faults = faults
        self._vendor = vendor

    async def fault(self) -> Fault | None:
        """What is to go wrong with the send at hand."""
        return await self._faults.take(self._vendor)

    async def take(
        self, request: Request, account: Account, message_id: str, letters: Sequence[Letter], fault: Fault | None
    ) -> None:
        """Accepts letters; with the fault for it, the connection is cut before an answer."""
        self._office.accept(account, message_id, letters, fault)
        if fault and fault.drop_after_accept:
            await process.cut(request)


async def read_body(request: Request, limit: int) -> bytes:
    """The body; raises `TooLarge` beyond so many bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge
    return bytes(body)


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises ValueError for anything else."""
    try:
        value = json.loads(body)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004
    return value


def is_json(request: Request) -> bool:
    """Whether the request says that its body is JSON."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def bearer(request: Request) -> str:
    """The token of an Authorization header (RFC 6750); empty when there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def basic(request: Request) -> tuple[str, str]:
    """User and password of an Authorization header (RFC 7617); both empty when there are none."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return (user, password) if scheme.lower() == "basic" and colon else ("", "")


def is_same(given: str, secret: str) -> bool:
    """Whether they are equal, whatever is given."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def addresses(text: object) -> list[str]:
    """The addresses of a list of mailboxes (RFC 5322 section 3.4); raises ValueError when one is malformed."""
    if not isinstance(text, str):
        raise ValueError("addresses are a string")  # noqa: TRY004
    found = []
    for part in re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', text):
        mailbox = _MAILBOX.fullmatch(part)
        address = (mailbox["angle"] or mailbox["bare"] or "").strip() if mailbox else ""
        if not ADDRESS.fullmatch(address):
            raise ValueError("not a valid email address")
        found.append(address)
    return found


def iso(at: float, digits: int = 3) -> str:
    """Epoch seconds as an ISO 8601 time in UTC."""
    moment = datetime.fromtimestamp(at, UTC)
    fraction = f"{moment.microsecond:06d}".ljust(digits, "0")[:digits]
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}Z"


def strings(value: object) -> Mapping[str, str]:
    """An object of strings; raises ValueError for anything else."""
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ValueError("an object of strings is needed")
    return value
