"""Messages from rows: the fields that a list shows, and those of their accounts and patients."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from api.graphql.compiled import Ahead
from api.graphql.context import Info
from api.graphql.ids import global_id, global_ids, key_cursor
from api.graphql.plans.page import Row, itself
from api.graphql.plans.patients import read_patient
from api.graphql.types.failure import Failure
from api.graphql.types.message import Explanation, Message, explained
from db.lists import MESSAGE_AT as AT
from db.lists import PATIENT_BESIDE
from db.messages import failure_from, message_from
from mail.status import AccountKind, MessageStatus, Verdict, status_of

_ID: Final = AT["id"]
_id_of: Final = itemgetter(_ID)
_SHOWN: Final = AT["shown"]
_CAPPED: Final = AT["capped"]
_QUEUED_AT: Final = AT["queued_at"]
_RESEND_OF: Final = AT["resend_of"]


class _Account(NamedTuple):
    """As much of a sending account as a row of a list has."""

    id: str
    name: str
    kind: AccountKind
    provider: str | None
    tracked: bool


_AT: Final[Mapping[MessageStatus, str]] = {
    MessageStatus.QUEUED: "queued_at",
    MessageStatus.CANCELLED: "cancelled_at",
    MessageStatus.FAILED: "failed_at",
    MessageStatus.SENT: "sent_at",
    MessageStatus.DELIVERED: "delivered_at",
    MessageStatus.OPENED: "opened_at",
    MessageStatus.NOT_DELIVERED: "returned_at",
}


# By the verdict under its ceiling, as Postgres names it.
_STATUS: Final = {verdict.sql_name: status_of(verdict) for verdict in Verdict}
_STATUS_NAME: Final = {name: status.name for name, status in _STATUS.items()}
_LABEL: Final = {name: status.label for name, status in _STATUS.items()}
_SINCE: Final = {name: AT[_AT[status]] for name, status in _STATUS.items()} | {
    # The time of the return that decides: the final one where there is one.
    Verdict.RETURNED_SOFT.sql_name: AT["soft_returned_at"]
}
_KINDS: Final = {kind.value: kind for kind in AccountKind}
_shown_of: Final = itemgetter(_SHOWN)


def _columns(*names: str) -> Callable[[Row], Any]:
    return itemgetter(*(AT[name] for name in names))


_TIMES: Final = _columns("scheduled_at", "sent_at", "delivered_at", "opened_at")
_ANY: Final = _columns(
    "shown", "verdict", "capped", "account_kind", "account_provider", "track_opens", "attempt_failed", "ambiguous",
    "deferred", "machine_opened", "complained", "unsubscribed", "failure_kind", "failure_reason",
)  # fmt: skip
# What an explanation follows from besides the times; of those that are shown the most, as little as it needs.
FACTS: Final[Mapping[str, Callable[[Row], Any] | None]] = {verdict.sql_name: None for verdict in Verdict} | {
    Verdict.OPENED.sql_name: _columns("shown", "ambiguous"),
    Verdict.DELIVERED.sql_name: _columns(
        "shown", "account_provider", "track_opens", "ambiguous", "machine_opened", "complained", "unsubscribed"
    ),
}


def message_cursor(row: Row) -> str:
    return key_cursor(row[_ID])


def _ids(rows: list[Row], info: Info) -> list[str]:
    return global_ids("Message", map(_id_of, rows))


def _statuses(rows: list[Row], info: Info) -> list[str]:
    return [_STATUS_NAME[shown] for shown in map(_shown_of, rows)]


def _labels(rows: list[Row], info: Info) -> list[str]:
    return [_LABEL[shown] for shown in map(_shown_of, rows)]


def _status_ats(rows: list[Row], info: Info) -> list[datetime]:
    return [row[_SINCE[row[_SHOWN]]] or row[_QUEUED_AT] for row in rows]


def _uncapped(column: str) -> Callable[[list[Row], Info], list[datetime | None]]:
    at = AT[column]

    def read(rows: list[Row], info: Info) -> list[datetime | None]:
        return [None if row[_CAPPED] else row[at] for row in rows]

    return read


def _not_delivered_ats(rows: list[Row], info: Info) -> list[datetime | None]:
    returned = {name for name, status in _STATUS.items() if status is MessageStatus.NOT_DELIVERED}
    return [row[_SINCE[row[_SHOWN]]] if row[_SHOWN] in returned else None for row in rows]


def _failures(rows: list[Row], info: Info) -> list[Failure | None]:
    shows = {MessageStatus.NOT_DELIVERED, MessageStatus.FAILED}
    found = [failure_from(row) if _STATUS[row[_SHOWN]] in shows else None for row in rows]
    return [Failure.of(failure) if failure else None for failure in found]


def _explanations(rows: list[Row], info: Info) -> tuple[Sequence[Hashable], Callable[[int], Explanation]]:
    now = datetime.now(UTC)
    silence = info.context.services.config.silence
    silent_since = now - silence

    def timed(row: Row) -> Hashable:
        scheduled_at, sent_at, delivered_at, opened_at = _TIMES(row)
        return (
            _ANY(row),
            scheduled_at is not None and scheduled_at > now,
            sent_at is not None and sent_at <= silent_since,
            delivered_at is None,
            opened_at is None,
        )

    def make(number: int) -> Explanation:
        row = rows[number]
        limit = Verdict.SENT if row[_CAPPED] else Verdict.RETURNED
        return explained(message_from(row), limit, row[AT["account_provider"]], now, silence)

    return [(FACTS[row[_SHOWN]] or timed)(row) for row in rows], make


_account_of: Final = itemgetter(AT["account_id"])
_about_account: Final = itemgetter(*(AT[name] for name in ("account_name", "account_kind", "account_provider")))
_bytes_of: Final = attrgetter("bytes")


def _accounts(rows: list[Row], info: Info) -> tuple[Sequence[Hashable], Callable[[int], _Account]]:
    def make(number: int) -> _Account:
        key, (name, kind, provider) = keys[number]
        of_kind = _KINDS[kind]
        return _Account(global_id("SendingAccount", UUID(bytes=key)), name, of_kind, provider, of_kind.tracked)

    # By bytes: hashing a UUID of asyncpg's takes as long as all the rest.
    keys = list(zip(map(_bytes_of, map(_account_of, rows)), map(_about_account, rows), strict=True))
    return keys, make


def _resent(rows: list[Row], info: Info) -> list[str | None]:
    return [None if (key := row[_RESEND_OF]) is None else global_id("Message", key) for row in rows]


_EACH: Final = {
    "subject": itemgetter(AT["subject"]),
    "recipient": itemgetter(AT["recipient"]),
    "queuedAt": itemgetter(_QUEUED_AT),
    "scheduledAt": itemgetter(AT["scheduled_at"]),
    "sentAt": itemgetter(AT["sent_at"]),
}
_ALL: Final[Mapping[str, Callable[[list[Row], Info], Sequence[Any]]]] = {
    "id": _ids,
    "status": _statuses,
    "statusLabel": _labels,
    "statusAt": _status_ats,
    "deliveredAt": _uncapped("delivered_at"),
    "openedAt": _uncapped("opened_at"),
    "notDeliveredAt": _not_delivered_ats,
    "failure": _failures,
}
_OF_ACCOUNT: Final = frozenset({"__typename", *_Account._fields})


def read_message(field: Ahead) -> None:
    """Reads messages from rows of `db.lists`."""
    for part in field.below:
        name = part.name
        selected = {each.name for each in part.below}
        if name in _EACH:
            part.read(_EACH[name], exact=True)
        elif name in _ALL:
            part.read_all(_ALL[name], exact=name != "failure")
        elif name == "explanation":
            part.read_keyed(_explanations)
        elif name == "account" and selected <= _OF_ACCOUNT:
            part.read_keyed(_accounts)
        elif name == "resendOf" and selected <= {"id", "__typename"}:
            part.read_all(_resent)
            for each in part.below:
                if each.name == "id":
                    each.read(itself)
    field.stand_in(_messages)


def read_message_with_patient(field: Ahead) -> None:
    """The same where each row has its patient too."""
    for part in field.below:
        if part.name == "patient":
            part.read(itself)
            read_patient(part, PATIENT_BESIDE)
    read_message(field)


def _messages(rows: list[Row], info: Info) -> list[Message]:
    tracked = info.context.first_tracked
    return [Message.of(message_from(row), tracked) for row in rows]
