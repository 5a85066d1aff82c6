"""An email to one patient, as it is handed to a transport, and the checks on what staff wrote.

One email has one recipient, so that every event belongs to somebody.
"""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from email_validator import EmailNotValidError, validate_email

from mail.errors import InvalidEmail
from mail.ids import MessageId

SUBJECT_LIMIT: Final = 500
"""Characters. RFC 5322 sets none; longer ones are cut by every mail program."""
NAME_LIMIT: Final = 200
BODY_LIMIT: Final = 1_000_000
"""Characters of text, and as many of HTML. Gmail clips a message at 102 KB."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox (RFC 5322 section 3.4): `name` may be empty, `email` is `local@domain`."""

    email: str
    name: str = ""

    @property
    def domain(self) -> str:
        return self.email.rpartition("@")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """Everything that a transport or a provider needs to send one message.

    `id` is our opaque id, which goes out as the ESP's metadata: never patient data. `date` is when the
    message was queued, the same for every attempt.
    """

    id: MessageId
    sender: Address
    recipient: Address
    subject: str
    text: str
    date: datetime
    html: str | None = None
    reply_to: Address | None = None
    track_opens: bool = True

    @property
    def rfc_message_id(self) -> str:
        """The Message-ID header (RFC 5322 section 3.6.4), stable for the life of the message."""
        return rfc_message_id(self.id, self.sender)


def rfc_message_id(message_id: MessageId, sender: Address) -> str:
    """The Message-ID header of one of our messages, with its angle brackets."""
    return f"<{message_id.hex}@{sender.domain}>"


def one_header_line(field: str, value: str, limit: int) -> str:
    """`value`, stripped and in NFC, when it can stand in one header line.

    Raises `InvalidEmail` for anything that could end the line or hide in it: CR, LF, NUL, U+2028,
    other control characters and lone surrogates.
    """
    value = unicodedata.normalize("NFC", value.strip())
    if len(value) > limit:
        raise InvalidEmail(field, "TOO_LONG", f"At most {limit} characters, not {len(value)}.")
    for character in value:
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
            raise InvalidEmail(
                field, "INVALID_CHARACTER", f"U+{ord(character):04X} can't stand in a header; write it on one line."
            )
    return value


def check_subject(value: str) -> str:
    """A subject fit to send; raises `InvalidEmail`."""
    subject = one_header_line("subject", value, SUBJECT_LIMIT)
    if not subject:
        raise InvalidEmail("subject", "REQUIRED", "Write a subject; mail without one is often taken for spam.")
    return subject


def check_name(field: str, value: str) -> str:
    """A person's or an account's name fit for a header; raises `InvalidEmail`."""
    name = one_header_line(field, value, NAME_LIMIT)
    if not name:
        raise InvalidEmail(field, "REQUIRED", "Write a name.")
    return name


def check_body(field: str, value: str) -> str:
    """A text or HTML body fit to send; raises `InvalidEmail`."""
    if len(value) > BODY_LIMIT:
        raise InvalidEmail(field, "TOO_LONG", f"At most {BODY_LIMIT:,} characters, not {len(value):,}.")
    for character in ("\x00", *(c for c in value if 0xD800 <= ord(c) <= 0xDFFF)):
        if character in value:
            raise InvalidEmail(field, "INVALID_CHARACTER", f"U+{ord(character):04X} can't stand in an email.")
    return value


def check_address(field: str, value: str) -> str:
    """An email address in its normal form (domain in lower case); raises `InvalidEmail`.

    The domain isn't looked up: whether it takes mail is for the mail server to say.
    """
    one_header_line(field, value, 320)
    try:
        return validate_email(value.strip(), check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError as error:
        raise InvalidEmail(field, "INVALID_ADDRESS", str(error)) from error
