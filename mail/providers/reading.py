"""What the reading of webhooks has in common: JSON from anywhere, its fields, times, keys and refusals.

Everything here is lenient about what isn't needed and strict about what is: one poisonous event is set
aside and the others are read.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind, classify, failure_from_reply, one_line
from mail.ids import MessageId
from mail.providers.base import Reading, Unreadable

METADATA_KEY = "carepost_message_id"
"""Under this name our id goes out with an email and comes back with its events."""

Fields = Mapping[str, object]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = re.compile(r"-?\d{1,15}(\.\d{1,9})?", re.ASCII)
_ISO_8601 = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)", re.ASCII | re.IGNORECASE
)  # RFC 3339, and offsets without a colon
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)
_SMTP_CODE = re.compile(r"[2-5]\d\d", re.ASCII)
_LONGEST_INTEGER = 300

# Apple's Mail Privacy Protection loads every image in advance, under this user agent and nothing more.
# Gmail's proxy is not here: it loads an image when somebody opens the email.
_PREFETCHERS = frozenset({"Mozilla/5.0"})

# What a bare policy code or nothing at all says is less than what the ESP found out.
_VAGUE = frozenset({FailureKind.OTHER, FailureKind.POLICY})


class Malformed(Exception):
    """A part of a webhook can't be read; the text names what is wrong and quotes nothing of it."""


def decode(body: bytes) -> object:
    """The JSON in a body; raises `Malformed`.

    orjson first. What it refuses as a whole for one bad value somewhere (NaN, a lone surrogate, broken UTF-8,
    an endless integer) the standard library reads more leniently, so that only the event with the bad value suffers.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), parse_constant=_nothing, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise Malformed("the body is not JSON") from error


def decode_object(body: bytes) -> Fields:
    """The JSON object in a body; empty for anything else."""
    try:
        value = decode(body)
    except Malformed:
        return {}
    return value if isinstance(value, dict) else {}


def _nothing(_: str) -> None:
    """NaN and Infinity, which aren't JSON (RFC 8259 section 6)."""


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else None


def read_each(elements: Iterable[object], read: Callable[[Fields], Event | None]) -> Reading:
    """Every element read by itself; what can't be read is set aside with its index.

    `read` returns None for what is no event of a message, and raises `Malformed`.
    """
    events: list[Event] = []
    unreadable: list[Unreadable] = []
    for index, element in enumerate(elements):
        try:
            if not isinstance(element, dict):
                raise Malformed("the event is not an object")
            event = read(element)
        except Malformed as malformed:
            unreadable.append(Unreadable(index, str(malformed)))
        else:
            if event is not None:
                events.append(replace(event, place=index))
    return Reading(tuple(events), tuple(unreadable))


def read_one(body: bytes, read: Callable[[Fields], Event | None]) -> Reading:
    """A body that is one event in JSON."""
    try:
        return read_each([decode(body)], read)
    except Malformed as malformed:
        return not_readable(str(malformed))


def read_one_or_many(body: bytes, read: Callable[[Fields], Event | None]) -> Reading:
    """A body that is one event in JSON, or a list of them."""
    try:
        posted = decode(body)
    except Malformed as malformed:
        return not_readable(str(malformed))
    return read_each(posted if isinstance(posted, list) else [posted], read)


def not_readable(error: str) -> Reading:
    """A body of which nothing could be read."""
    return Reading((), (Unreadable(0, error),))


def text(fields: Fields, name: str) -> str:
    """A field as one clean line, at most 1,000 characters; empty when it is missing or no text.

    Postgres stores neither U+0000 nor lone surrogates, which JSON can both carry.
    """
    value = fields.get(name)
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        value = str(value)
    if not isinstance(value, str):
        return ""
    return value.strip() if len(value) <= 1000 and value.isprintable() else one_line(value)


def nested(fields: Fields, name: str) -> Fields:
    """A field that is an object; empty when it is missing or something else."""
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Fields]:
    """The objects in a list; none when it is something else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def our_id(fields: Fields) -> MessageId | None:
    """Our message id among an event's metadata, if a whole one is there."""
    value = fields.get(METADATA_KEY)
    if not isinstance(value, str):
        return None
    try:
        return MessageId(UUID(value))
    except ValueError:
        return None


def epoch_time(value: object) -> datetime:
    """Seconds since 1970 as a number or its text; raises `Malformed` for anything else."""
    if isinstance(value, str) and _SECONDS.fullmatch(value.strip()):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed("its time is no number of seconds")
    try:
        return _EPOCH + timedelta(seconds=value)
    except (OverflowError, ValueError) as error:
        raise Malformed("its time is out of range") from error


def iso_time(value: object) -> datetime:
    """An ISO 8601 time with a zone; raises `Malformed`. .NET's seventh digit of a second is dropped."""
    if not isinstance(value, str) or not _ISO_8601.fullmatch(value.strip()):
        raise Malformed("its time is no ISO 8601 time with a zone")
    try:
        return datetime.fromisoformat(value.strip().upper()).astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise Malformed("its time is out of range") from error


def dedupe_key(*parts: str | int | datetime | None) -> str:
    """One key from what makes an event itself; the order of the parts counts."""
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def prefetched(user_agent: str) -> bool:
    """Whether an image was loaded by a machine that loads all images, read or not."""
    return user_agent in _PREFETCHERS


def refusal(reply: str, *, status: str = "", vendor: FailureKind | None = None) -> Failure:
    """A refusal in the destination's own words.

    `status` is the RFC 3463 or RFC 5321 code that the ESP gives apart; `vendor` what the ESP makes of it, which
    counts where the words and the RFC 3463 code say little. A bare 550 says less than either.
    """
    enhanced = status if _ENHANCED.fullmatch(status) else None
    smtp_code = int(status) if _SMTP_CODE.fullmatch(status) else None
    failure = failure_from_reply(reply, smtp_code=smtp_code, enhanced_code=enhanced)
    said = classify(None, failure.enhanced_code, failure.reason)
    # An ESP that makes nothing of it says no more than even a vague code.
    kind = said if said not in _VAGUE or vendor is FailureKind.OTHER else vendor or failure.kind
    return Failure(kind, failure.smtp_code, failure.enhanced_code, failure.reason)


def final(kind: EventKind, failure: Failure) -> EventKind:
    """A bounce that the ESP leaves open is final where the destination's own code says so: RFC 3463 section 2,
    class 5, or an RFC 5321 reply of 5yz. Other kinds stay as they are."""
    permanent = failure.enhanced_code.startswith("5.") if failure.enhanced_code else (failure.smtp_code or 0) >= 500
    return EventKind.BOUNCED if kind is EventKind.SOFT_BOUNCED and permanent else kind
