"""An email as bytes for an SMTP server: RFC 5322 headers, RFC 2045 bodies."""

import re
from collections import OrderedDict
from datetime import datetime
from email.charset import Charset
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, quote
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from typing import Final

from mail.message import Address, Email

_POLICY: Final = SMTP.clone(max_line_length=76)
_UTF8: Final = Charset("utf-8")
# What can stand in a header as it is, in one line: short, printable ASCII without a space at either end.
_PLAIN: Final = re.compile(r"[!-~](?:[ -~]{0,58}[!-~])?")
_ENCODED_BYTES: Final = 39
"""UTF-8 bytes an encoded word, which makes one of at most 64 characters; RFC 2047 section 2 allows 75."""
_BOUNDARY: Final = "=_" + "0" * 32
"""Stands for "=_" and a message's id. A boundary must not occur in a part (RFC 2046 section 5.1.1), and "=_" occurs
neither in quoted-printable nor in base64, as RFC 2045 section 6.7 notes. One that is fixed for each message makes every
attempt's bytes the same."""


def render(email: Email) -> bytes:
    """The whole email, CRLF line ends, 7-bit: quoted-printable or base64 bodies and RFC 2047 headers.

    Addresses that aren't ASCII need SMTPUTF8 (RFC 6531); they are rendered as UTF-8. Bodies are rendered once and
    remembered for a while: a bulk is one text to many patients.
    """
    # The standard library reads what it is given as a header before it writes it, and so takes a name or subject
    # that looks like an encoded word for one: decoded, it can hold a line end. Hence our own header lines.
    headers = [
        ("From", _mailbox(email.sender)),
        ("To", _mailbox(email.recipient)),
        *([("Reply-To", _mailbox(email.reply_to))] if email.reply_to else []),
        ("Subject", email.subject if _is_plain(email.subject) else _encoded(email.subject)),
        ("Date", _date(email.date)),
        ("Message-ID", email.rfc_message_id),
        # RFC 3834 section 5: keeps other people's auto-responders from answering.
        ("Auto-Submitted", "auto-generated"),
    ]
    # All that costs time is the same for everybody who gets the same text; what differs is a few lines in front of it.
    content = _contents.of(email.text, email.html)
    if email.html is not None:
        content = content.replace(_BOUNDARY.encode(), f"=_{email.id.hex}".encode())
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode() + content


def is_rendered(text: str, html: str | None) -> bool:
    """Whether rendering these bodies costs next to nothing, as they were rendered a short while ago."""
    return _contents.has(text, html)


class _Contents:
    """Bodies as bytes, the last ones used, `limit` bytes in all. Safe in threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._by_key: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = Lock()

    def has(self, text: str, html: str | None) -> bool:
        with self._lock:
            return _key(text, html) in self._by_key

    def of(self, text: str, html: str | None) -> bytes:
        key = _key(text, html)
        with self._lock:
            content = self._by_key.get(key)
            if content is not None:
                self._by_key.move_to_end(key)
                return content
        content = render_content(text, html)
        with self._lock:
            if key not in self._by_key and len(content) <= self._limit:
                self._by_key[key] = content
                self._held += len(content)
                while self._held > self._limit:
                    self._held -= len(self._by_key.popitem(last=False)[1])
        return content


_contents: Final = _Contents(8 << 20)


def _key(text: str, html: str | None) -> bytes:
    """A digest, so that the memory holds each text once."""
    digest = sha256(text.encode())
    if html is not None:
        digest.update(len(text).to_bytes(8) + html.encode())
    return digest.digest()


def render_content(text: str, html: str | None) -> bytes:
    """The content headers and the bodies, by the standard library; several parts are bounded by `_BOUNDARY`."""
    content = EmailMessage(_POLICY)
    content.set_content(text, cte=_encoding(text))
    if html is not None:
        content.add_alternative(html, subtype="html", cte=_encoding(html))
        content.set_boundary(_BOUNDARY)
    return content.as_bytes()


@lru_cache(maxsize=256)
def _date(date: datetime) -> str:
    return format_datetime(date)


def _mailbox(address: Address) -> str:
    if not address.name:
        return address.email
    phrase = f'"{quote(address.name)}"' if _is_plain(address.name) else _encoded(address.name)
    return f"{phrase} <{address.email}>"


def _is_plain(value: str) -> bool:
    return _PLAIN.fullmatch(value) is not None and "=?" not in value


def _encoded(value: str) -> str:
    """RFC 2047 encoded words, a line each; what is between two of them isn't part of the value."""
    words, start, size = [], 0, 0
    for place, character in enumerate(value):
        width = len(character.encode())
        if size + width > _ENCODED_BYTES:
            words.append(_UTF8.header_encode(value[start:place]))
            start, size = place, 0
        size += width
    words.append(_UTF8.header_encode(value[start:]))
    return "\r\n ".join(words)


def _encoding(body: str) -> str:
    """Quoted-printable keeps mostly-ASCII text readable in transit; base64 is shorter for the rest."""
    foreign = sum(not character.isascii() for character in body[:4096])
    return "base64" if foreign * 4 > len(body[:4096]) else "quoted-printable"
