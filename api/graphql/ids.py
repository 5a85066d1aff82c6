"""Global ids (Relay) and cursors: opaque to the client, base64 of what they stand for."""

import re
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import strawberry

from api.graphql.errors import ApiError
from db.position import Position

_UUID_LENGTH: Final = 36
_LIVE: Final = re.compile(r"live:(?:(?P<timeline>[0-9A-F]{8}):)?(?P<transaction>[0-9]{1,18})")


def global_id(kind: str, key: UUID | str) -> strawberry.ID:
    return strawberry.ID(_encode(f"{kind}:{key}"))


def global_ids(kind: str, keys: Iterable[str]) -> list[str]:
    """The ids of many objects of one type, from the texts of their UUIDs."""
    prefix = f"{kind}:"
    if (len(prefix) + _UUID_LENGTH) % 3 != 2:
        return [_encode(f"{prefix}{key}") for key in keys]
    # In one go: "?" is 00111111, so as the last of three bytes it leaves the bits before as they are and becomes "/",
    # which letters, digits, ":" and "-" never give.
    text = f"?{prefix}".join(keys)
    return b2a_base64(f"{prefix}{text}?".encode(), newline=False).decode().split("/")[:-1] if text else []


def read_global_id(value: str) -> tuple[str, str] | None:
    """Type name and key; None when it is no id of ours."""
    kind, colon, key = (_decode(value) or "").partition(":")
    return (kind, key) if colon else None


def uuid_of(kind: str, value: str) -> UUID | None:
    """The UUID of an id of this type; None when it is none, which is answered like one that doesn't exist."""
    read = read_global_id(value)
    if read is None or read[0] != kind:
        return None
    try:
        return UUID(read[1])
    except ValueError:
        return None


def key_cursor(key: UUID | str) -> str:
    return _encode(str(key))


def read_key_cursor(cursor: str | None) -> UUID | None:
    """The key after which a page begins; raises `ApiError` for what is no cursor."""
    if cursor is None:
        return None
    try:
        return UUID(_decode(cursor) or "")
    except ValueError as error:
        raise _bad_cursor() from error


def event_cursor(at: datetime, key: str) -> str:
    return _encode(f"{at.isoformat()} {key}")


def read_event_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    at, space, key = (_decode(cursor) or "").partition(" ")
    try:
        moment = datetime.fromisoformat(at)
        if not space or moment.tzinfo is None or "\x00" in key:
            raise _bad_cursor()
        return moment.astimezone(UTC), key
    except (ValueError, OverflowError) as error:
        raise _bad_cursor() from error


def live_cursor(position: Position) -> str:
    return _encode(f"live:{position.timeline}:{position.transaction}")


def read_live_cursor(cursor: str | None) -> Position | None:
    """The position of a cursor; those of earlier releases name no timeline and so are of none."""
    if cursor is None:
        return None
    read = _LIVE.fullmatch(_decode(cursor) or "")
    if read is None:
        raise ApiError("`since` is no cursor of a subscription or a list of messages.", "INVALID_CURSOR")
    return Position(read["timeline"] or "", int(read["transaction"]))


def _bad_cursor() -> ApiError:
    return ApiError("`after` is no cursor of this list.", "INVALID_CURSOR")


def _encode(text: str) -> str:
    encoded = b2a_base64(text.encode(), newline=False).rstrip(b"=").decode()
    return encoded.replace("+", "-").replace("/", "_")


def _decode(value: str) -> str | None:
    try:
        encoded = value.replace("-", "+").replace("_", "/").encode("ascii")
        return a2b_base64(encoded + b"=" * (-len(value) % 4)).decode()
    except (Error, ValueError):
        return None
