"""Messages from rows: the fields that a list shows, and those of their accounts and patients."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

from api.graphql.compiled import Ahead
from api.graphql.context import Info
from api.graphql.ids import global_id, key_cursor
from api.graphql.plans.page import Row, itself
from api.graphql.plans.patients import read_patient
from api.graphql.types.failure import Failure
from api.graphql.types.message import Explanation, Message, explained
from db.lists import MESSAGE_AT as AT
from db.lists import PATIENT_BESIDE
from db.messages import failure_from, message_from
from mail.status import AccountKind, MessageStatus, Verdict, status_of

_ID: Final = AT["id"]
_VERDICT: Final = AT["verdict"]
_CAPPED: Final = AT["capped"]
_QUEUED_AT: Final = AT["queued_at"]
_RESEND_OF: Final = AT["resend_of"]
_FAILURE_KIND: Final = AT["failure_kind"]


class _Standing(NamedTuple):
    """What follows from a verdict under its ceiling; `at` is the column of the time since when."""

    status: MessageStatus
    label: str
    at: int


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


def _standing(verdict: Verdict, limit: Verdict) -> _Standing:
    status = status_of(verdict, limit)
    # The time of the return that decides: the final one where there is one.
    soft = status is MessageStatus.NOT_DELIVERED and verdict is not Verdict.RETURNED
    return _Standing(status, status.label, AT["soft_returned_at" if soft else _AT[status]])


_STANDING: Final = {
    (verdict.sql_name, limit is Verdict.SENT): _standing(verdict, limit)
    for verdict in Verdict
    for limit in (Verdict.SENT, Verdict.RETURNED)
}
_KINDS: Final = {kind.value: kind for kind in AccountKind}
_standing_of: Final = itemgetter(_VERDICT, _CAPPED)

# What an explanation follows from, but for the time.
_facts_of: Final = itemgetter(
    *(
        AT[name]
        for name in (
            "verdict", "capped", "account_kind", "account_provider", "track_opens", "attempt_failed", "ambiguous",
            "deferred", "machine_opened", "complained", "unsubscribed", "failure_kind", "failure_reason",
        )
    )
)  # fmt: skip
_times_of: Final = itemgetter(*(AT[name] for name in ("scheduled_at", "sent_at", "delivered_at", "opened_at")))
_MOST_REMEMBERED: Final = 5_000
_remembered: dict[tuple[Any, ...], Explanation] = {}


def message_cursor(row: Row) -> str:
    return key_cursor(row[_ID])


def _ids(rows: list[Row], info: Info) -> list[str]:
    return [global_id("Message", row[_ID]) for row in rows]


def _statuses(rows: list[Row], info: Info) -> list[MessageStatus]:
    return [_STANDING[key].status for key in map(_standing_of, rows)]


def _labels(rows: list[Row], info: Info) -> list[str]:
    return [_STANDING[key].label for key in map(_standing_of, rows)]


def _status_ats(rows: list[Row], info: Info) -> list[datetime]:
    return [row[_STANDING[_standing_of(row)].at] or row[_QUEUED_AT] for row in rows]


def _uncapped(column: str) -> Callable[[list[Row], Info], list[datetime | None]]:
    at = AT[column]

    def read(rows: list[Row], info: Info) -> list[datetime | None]:
        return [None if row[_CAPPED] else row[at] for row in rows]

    return read


def _not_delivered_ats(rows: list[Row], info: Info) -> list[datetime | None]:
    standings = map(_STANDING.__getitem__, map(_standing_of, rows))
    returned = MessageStatus.NOT_DELIVERED
    return [row[found.at] if found.status is returned else None for row, found in zip(rows, standings, strict=True)]


def _failures(rows: list[Row], info: Info) -> list[Failure | None]:
    shows = {MessageStatus.NOT_DELIVERED, MessageStatus.FAILED}
    return [
        Failure.of(failure)
        if row[_FAILURE_KIND] and _STANDING[_standing_of(row)].status in shows and (failure := failure_from(row))
        else None
        for row in rows
    ]


def _explanations(rows: list[Row], info: Info) -> list[Explanation]:
    now = datetime.now(UTC)
    silence = info.context.services.config.silence
    silent_since = now - silence
    found = []
    for row in rows:
        scheduled_at, sent_at, delivered_at, opened_at = _times_of(row)
        facts = (
            *_facts_of(row),
            scheduled_at is not None and scheduled_at > now,
            sent_at is not None and sent_at <= silent_since,
            delivered_at is None,
            opened_at is None,
        )
        why = _remembered.get(facts)
        if why is None:
            limit = Verdict.SENT if row[_CAPPED] else Verdict.RETURNED
            why = explained(message_from(row), limit, row[AT["account_provider"]], now, silence)
            if len(_remembered) >= _MOST_REMEMBERED:
                _remembered.clear()
            _remembered[facts] = why
        found.append(why)
    return found


_account_of: Final = itemgetter(
    *(AT[name] for name in ("account_id", "account_name", "account_kind", "account_provider"))
)


def _accounts(rows: list[Row], info: Info) -> list[_Account]:
    made: dict[Any, _Account] = {}
    found = []
    for key, name, kind, provider in map(_account_of, rows):
        account = made.get(key)
        if account is None:
            of_kind = _KINDS[kind]
            account = made[key] = _Account(global_id("SendingAccount", key), name, of_kind, provider, of_kind.tracked)
        found.append(account)
    return found


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
            part.read(_EACH[name])
        elif name in _ALL:
            part.read_all(_ALL[name])
        elif name == "explanation":
            part.read_all(_explanations, shared=True)
        elif name == "account" and selected <= _OF_ACCOUNT:
            part.read_all(_accounts, shared=True)
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
