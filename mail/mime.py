"""An email as bytes for an SMTP server: RFC 5322 headers, RFC 2045 bodies."""

import re
from email.charset import Charset
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, quote
from typing import Final

from mail.message import Address, Email

_POLICY: Final = SMTP.clone(max_line_length=76)
_UTF8: Final = Charset("utf-8")
# What can stand in a header as it is, in one line: short, printable ASCII without a space at either end.
_PLAIN: Final = re.compile(r"[!-~](?:[ -~]{0,58}[!-~])?")
_ENCODED_BYTES: Final = 39
"""UTF-8 bytes an encoded word, which makes one of at most 64 characters; RFC 2047 section 2 allows 75."""


def render(email: Email) -> bytes:
    """The whole email, CRLF line ends, 7-bit: quoted-printable or base64 bodies and RFC 2047 headers.

    Addresses that aren't ASCII need SMTPUTF8 (RFC 6531); they are rendered as UTF-8.
    """
    # The standard library reads what it is given as a header before it writes it, and so takes a name or subject
    # that looks like an encoded word for one: decoded, it can hold a line end. Hence our own header lines.
    headers = [
        ("From", _mailbox(email.sender)),
        ("To", _mailbox(email.recipient)),
        *([("Reply-To", _mailbox(email.reply_to))] if email.reply_to else []),
        ("Subject", email.subject if _is_plain(email.subject) else _encoded(email.subject)),
        ("Date", format_datetime(email.date)),
        ("Message-ID", email.rfc_message_id),
        # RFC 3834 section 5: keeps other people's auto-responders from answering.
        ("Auto-Submitted", "auto-generated"),
    ]
    content = EmailMessage(_POLICY)
    content.set_content(email.text, cte=_encoding(email.text))
    if email.html is not None:
        content.add_alternative(email.html, subtype="html", cte=_encoding(email.html))
        # RFC 2046 section 5.1.1: the boundary must not occur in a part. A fixed one per message also
        # makes every attempt's bytes the same.
        content.set_boundary(f"=_{email.id.hex}")
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode() + content.as_bytes()


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
