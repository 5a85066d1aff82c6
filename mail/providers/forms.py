"""Forms, as webhooks carry them: URL-encoded (WHATWG URL, section 5) and multipart/form-data (RFC 7578)."""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote_plus, unquote_to_bytes

from mail.providers.base import HttpRequest

_NAME: Final = re.compile(rb'^content-disposition:[^\r\n]*?[; ]name="([^"\r\n]*)"', re.IGNORECASE | re.MULTILINE)
_FILE: Final = re.compile(rb"filename\*?=", re.IGNORECASE)
_LONGEST_BOUNDARY: Final = 72  # RFC 2046 section 5.1.1, with the two hyphens before it


def post(url: str, headers: Mapping[str, str], fields: Sequence[tuple[str, str]]) -> HttpRequest:
    """A POST of a URL-encoded form that asks for JSON."""
    body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields).encode()
    kind = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
    return HttpRequest("POST", url, {**kind, **headers}, body)


def encoded(body: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a URL-encoded form in order, as the bytes that were encoded; any bytes are such a form."""
    pairs = (field.replace(b"+", b" ").partition(b"=") for field in body.split(b"&") if field)
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in pairs]


def fields(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form of either kind in order, files left out. A multipart form is told by its first line, which
    is its boundary; a URL-encoded one has no lines."""
    pairs = _multipart(body) if body.startswith(b"--") and b"\r\n" in body else encoded(body)
    return [(name.decode("utf-8", "replace"), value.decode("utf-8", "replace")) for name, value in pairs]


def _multipart(body: bytes) -> list[tuple[bytes, bytes]]:
    boundary, _, rest = body.partition(b"\r\n")
    if len(boundary) > _LONGEST_BOUNDARY:
        return []
    found = []
    for part in (b"\r\n" + rest).split(b"\r\n" + boundary):
        head, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name and not _FILE.search(head):
            found.append((name[1], content))
    return found
