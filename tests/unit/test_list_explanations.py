"""Lists explain a message by few of its columns, and remember what they said by the facts that it follows from."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from api.graphql.plans.columns import Columns
from api.graphql.plans.messages import read_explanations
from api.graphql.types.message import Explanation, explained, facts_of
from db.lists import FLAG, MESSAGE
from db.messages import message_from
from mail.failure import FailureKind
from mail.providers import PROVIDERS
from mail.status import AccountKind, Verdict

NOW = datetime.now(UTC)
SILENCE = timedelta(hours=72)
_times = st.one_of(st.none(), st.integers(-9, 9).map(lambda days: NOW + timedelta(days=days, hours=1)))
_flags = st.booleans()
_columns: dict[str, st.SearchStrategy[Any]] = {
    "account_kind": st.sampled_from([kind.value for kind in AccountKind]),
    "account_provider": st.sampled_from([None, *PROVIDERS]),
    "verdict": st.sampled_from([verdict.sql_name for verdict in Verdict]),
    "failure_kind": st.sampled_from([None, *(kind.value for kind in FailureKind)]),
    "failure_reason": st.sampled_from([None, "", "550 5.1.1 no"]),
    "failure_smtp_code": st.none(),
    "failure_enhanced_code": st.none(),
    "queued_at": st.just(NOW),
    "recipient": st.just("a@b.example"),
    "subject": st.just("a"),
    "resend_of": st.none(),
    **dict.fromkeys(("id", "patient_id", "account_id"), st.just(UUID(int=1))),
    **{name: _times for name in MESSAGE if name.endswith("_at") and name != "queued_at"},
}
_rows = st.fixed_dictionaries({name: _columns.get(name, _flags) for name in (*MESSAGE, "account_provider", "capped")})
_columns_read = Columns()
_read = read_explanations(_columns_read)
_info: Any = SimpleNamespace(context=SimpleNamespace(services=SimpleNamespace(config=SimpleNamespace(silence=SILENCE))))


class Row(list[Any]):
    """Read by number and by name, as asyncpg's records are."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(_columns_read.names.index(key) if isinstance(key, str) else key)


def limit_of(values: dict[str, Any]) -> Verdict:
    return Verdict.SENT if values["capped"] or values["account_kind"] != "esp" else Verdict.RETURNED


def listed(values: dict[str, Any]) -> Row:
    """The row as the statement of a list gives it."""
    shown = min(Verdict[values["verdict"].upper()], limit_of(values))
    capped = limit_of(values) is Verdict.SENT
    flags = sum(bit for name, bit in FLAG.items() if (capped if name == "capped" else values[name]))
    given = values | {"id_text": str(values["id"]), "shown": shown.sql_name, "flags": flags}
    return Row(given[name] for name in _columns_read.names)


def whole(values: dict[str, Any]) -> Explanation:
    """By all columns of the message."""
    message = message_from(values)  # type: ignore[arg-type]
    return explained(facts_of(message, limit_of(values), values["account_provider"]), NOW, SILENCE)


@given(st.lists(_rows, min_size=1, max_size=5))
def test_a_list_explains_what_a_message_by_itself_explains(rows: list[dict[str, Any]]) -> None:
    keys, make = _read([listed(row) for row in rows], _info)
    assert [make(number) for number in range(len(keys))] == [whole(row) for row in rows]


@given(_rows, _rows)
def test_what_has_the_same_key_has_the_same_explanation(one: dict[str, Any], other: dict[str, Any]) -> None:
    # What is shown the most follows from the least.
    least = {name: one[name] for name in ("verdict", "account_kind", "account_provider", *FLAG)}
    for alike in (other | least, one | {"subject": "b", "recipient": "c@d.example"}, one):
        (first, second), _ = _read([listed(one), listed(alike)], _info)
        if first == second:
            assert whole(alike) == whole(one)
        else:
            assert alike["verdict"] not in {"delivered", "opened"} or limit_of(one) is Verdict.SENT
