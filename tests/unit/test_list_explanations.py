"""Lists remember explanations by the facts that they follow from: whatever else differs makes no difference."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.graphql.plans.messages import FACTS
from api.graphql.types.message import explained
from db.lists import MESSAGE_AT
from db.messages import message_from
from mail.failure import FailureKind
from mail.providers import PROVIDERS
from mail.status import AccountKind, Verdict

NOW = datetime(2026, 11, 24, tzinfo=UTC)
_times = st.one_of(st.none(), st.integers(-9, 9).map(lambda days: NOW + timedelta(days=days)))
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
    "account_name": st.just("a"),
    "running": st.just(1),
    **dict.fromkeys(("id", "patient_id", "account_id"), st.just(UUID(int=1))),
    **{name: _times for name in MESSAGE_AT if name.endswith("_at") and name != "queued_at"},
}
_rows = st.fixed_dictionaries({name: _columns.get(name, _flags) for name in MESSAGE_AT})


class Row(list[Any]):
    """Read by number and by name, as asyncpg's records are."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(MESSAGE_AT[key] if isinstance(key, str) else key)


def shown(values: dict[str, Any]) -> Row:
    """A row with what follows from its other columns."""
    tracked = values["account_kind"] == "esp" and not values["capped"]
    verdict = Verdict[values["verdict"].upper()]
    under = min(verdict, Verdict.RETURNED if tracked else Verdict.SENT)
    return Row((values | {"capped": not tracked, "shown": under.sql_name})[name] for name in MESSAGE_AT)


@pytest.mark.parametrize("verdict", [name for name, facts_of in FACTS.items() if facts_of is not None])
@given(_rows, _rows)
def test_what_is_no_fact_of_a_status_makes_no_difference(
    verdict: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    row = shown(one | {"verdict": verdict, "account_kind": "esp", "capped": False})
    facts_of = FACTS[row["shown"]]
    assert facts_of is not None
    counting = facts_of(list(range(len(MESSAGE_AT))))
    names = list(MESSAGE_AT)
    same = {names[number] for number in (counting if isinstance(counting, tuple) else (counting,))}
    # What is shown comes from verdict, kind and ceiling.
    same |= {"verdict", "account_kind", "capped"}
    alike = shown(other | {name: row[name] for name in same})
    assert facts_of(alike) == facts_of(row)

    def why(of: Row) -> Any:
        limit = Verdict.SENT if of["capped"] else Verdict.RETURNED
        return explained(message_from(of), limit, of["account_provider"], NOW, timedelta(hours=72))  # type: ignore[arg-type]

    assert why(alike) == why(row)
