"""Messages from rows: the fields that a list shows, and those of their accounts and patients."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from api.graphql.compiled import Ahead
from api.graphql.compiled.hooks import Keyed, ReadAll
from api.graphql.context import Info
from api.graphql.ids import global_id, global_ids, key_cursor
from api.graphql.plans.columns import Columns
from api.graphql.plans.page import Row, itself
from api.graphql.plans.patients import read_patient
from api.graphql.types.failure import Failure
from api.graphql.types.message import Explanation, Message, capabilities_of, explained
from db.lists import FIRST, FLAG, MESSAGE, PATIENT_AT
from db.messages import failure_from, message_from
from mail.explain import Facts
from mail.status import AccountKind, MessageStatus, Verdict, status_of


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
_VERDICT: Final = {verdict.sql_name: verdict for verdict in Verdict}
_STATUS: Final = {verdict.sql_name: status_of(verdict) for verdict in Verdict}
_STATUS_NAME: Final = {name: status.name for name, status in _STATUS.items()}
_LABEL: Final = {name: status.label for name, status in _STATUS.items()}
_SINCE: Final = {name: _AT[status] for name, status in _STATUS.items()} | {
    # The time of the return that decides: the final one where there is one.
    Verdict.RETURNED_SOFT.sql_name: "soft_returned_at"
}
_KINDS: Final = {kind.value: kind for kind in AccountKind}
_CAPPED: Final = FLAG["capped"]
_FAILURE: Final = ("failure_kind", "failure_smtp_code", "failure_enhanced_code", "failure_reason")
# What an explanation follows from where it is shown the most. What else there is, times and failures, doesn't count.
_BRIEF: Final = frozenset({Verdict.OPENED.sql_name, Verdict.DELIVERED.sql_name})
_BRIEF_FACTS: Final = ("shown", "account_provider", "flags")


def message_cursor(row: Row) -> str:
    return key_cursor(row[0])


def _ids(columns: Columns) -> ReadAll:
    key = columns.reader(FIRST)
    return lambda rows, info: global_ids("Message", map(key, rows))


def _shown_as(names: Mapping[str, str]) -> Callable[[Columns], ReadAll]:
    def of(columns: Columns) -> ReadAll:
        shown = columns.reader("shown")
        return lambda rows, info: list(map(names.__getitem__, map(shown, rows)))

    return of


def _status_ats(columns: Columns) -> ReadAll:
    shown, queued_at = columns.at("shown"), columns.at("queued_at")
    since = {name: columns.at(column) for name, column in _SINCE.items()}
    return lambda rows, info: [row[since[row[shown]]] or row[queued_at] for row in rows]


def _uncapped(column: str) -> Callable[[Columns], ReadAll]:
    def of(columns: Columns) -> ReadAll:
        flags, at = columns.at("flags"), columns.at(column)
        return lambda rows, info: [None if row[flags] & _CAPPED else row[at] for row in rows]

    return of


def _not_delivered_ats(columns: Columns) -> ReadAll:
    shown = columns.at("shown")
    since = {
        name: columns.at(_SINCE[name]) for name, status in _STATUS.items() if status is MessageStatus.NOT_DELIVERED
    }
    return lambda rows, info: [row[since[row[shown]]] if row[shown] in since else None for row in rows]


def _failures(columns: Columns) -> ReadAll:
    shown = columns.at("shown")
    columns.ask_for(*_FAILURE)
    shows = {name for name, status in _STATUS.items() if status in {MessageStatus.NOT_DELIVERED, MessageStatus.FAILED}}

    def read(rows: list[Row], info: Info) -> list[Failure | None]:
        found = [failure_from(row) if row[shown] in shows else None for row in rows]
        return [Failure.of(failure) if failure else None for failure in found]

    return read


def read_explanations(columns: Columns) -> Keyed:
    shown, flags = columns.at("shown"), columns.at("flags")
    brief = columns.reader(*_BRIEF_FACTS)
    whole = columns.reader(*_BRIEF_FACTS, "account_kind", *_FAILURE)
    times = columns.reader("scheduled_at", "sent_at", "delivered_at", "opened_at")

    def facts(row: Row) -> Facts:
        kind = _KINDS[row["account_kind"]]
        stated = {name: bool(row[flags] & bit) for name, bit in FLAG.items()}
        return Facts(
            kind=kind,
            verdict=_VERDICT[row[shown]],
            limit=Verdict.SENT if stated.pop("capped") else Verdict.RETURNED,
            capabilities=capabilities_of(kind, row["account_provider"]),
            scheduled_at=row["scheduled_at"],
            sent_at=row["sent_at"],
            delivered_at=row["delivered_at"],
            opened_at=row["opened_at"],
            failure=failure_from(row),
            **stated,
        )

    def read(rows: list[Row], info: Info) -> tuple[Sequence[Hashable], Callable[[int], Explanation]]:
        now = datetime.now(UTC)
        silence = info.context.services.config.silence
        silent_since = now - silence

        def timed(row: Row) -> Hashable:
            scheduled_at, sent_at, delivered_at, opened_at = times(row)
            return (
                whole(row),
                scheduled_at is not None and scheduled_at > now,
                sent_at is not None and sent_at <= silent_since,
                delivered_at is None,
                opened_at is None,
            )

        def make(number: int) -> Explanation:
            return explained(facts(rows[number]), now, silence)

        return [brief(row) if row[shown] in _BRIEF else timed(row) for row in rows], make

    return read


def _accounts(columns: Columns) -> Keyed:
    about = columns.reader("account_id_text", "account_name", "account_kind", "account_provider")

    def read(rows: list[Row], info: Info) -> tuple[Sequence[Hashable], Callable[[int], _Account]]:
        keys = list(map(about, rows))

        def make(number: int) -> _Account:
            key, name, kind, provider = keys[number]
            of_kind = _KINDS[kind]
            return _Account(global_id("SendingAccount", key), name, of_kind, provider, of_kind.tracked)

        return keys, make

    return read


def _resent(columns: Columns) -> ReadAll:
    resent = columns.reader("resend_of_text")
    return lambda rows, info: [None if key is None else global_id("Message", key) for key in map(resent, rows)]


_EACH: Final[Mapping[str, str]] = {
    "subject": "subject",
    "recipient": "recipient",
    "queuedAt": "queued_at",
    "scheduledAt": "scheduled_at",
    "sentAt": "sent_at",
}
_ALL: Final[Mapping[str, Callable[[Columns], ReadAll]]] = {
    "id": _ids,
    "status": _shown_as(_STATUS_NAME),
    "statusLabel": _shown_as(_LABEL),
    "statusAt": _status_ats,
    "deliveredAt": _uncapped("delivered_at"),
    "openedAt": _uncapped("opened_at"),
    "notDeliveredAt": _not_delivered_ats,
    "failure": _failures,
}
_OF_ACCOUNT: Final = frozenset({"__typename", *_Account._fields})


def read_message(field: Ahead, columns: Columns) -> None:
    """Reads messages from rows of `db.lists`."""
    for part in field.below:
        name = part.name
        selected = {each.name for each in part.below}
        if name in _EACH:
            part.read(columns.reader(_EACH[name]), exact=True)
        elif name in _ALL:
            part.read_all(_ALL[name](columns), exact=name != "failure")
        elif name == "explanation":
            part.read_keyed(read_explanations(columns))
        elif name == "account" and selected <= _OF_ACCOUNT:
            part.read_keyed(_accounts(columns))
        elif name == "resendOf" and selected <= {"id", "__typename"}:
            part.read_all(_resent(columns))
            for each in part.below:
                if each.name == "id":
                    each.read(itself)
        elif name == "patient":
            part.read(itself)
            read_patient(part, {column: columns.at(f"their_{column}") for column in PATIENT_AT})
        elif name != "__typename":
            columns.ask_for(*MESSAGE)
            field.stand_in(_messages)


def _messages(rows: list[Row], info: Info) -> list[Message]:
    tracked = info.context.first_tracked
    return [Message.of(message_from(row), tracked) for row in rows]
