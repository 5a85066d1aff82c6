"""Every status explains itself, whatever the facts; every explanation has facts that lead to it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.explain import Facts, explain
from mail.explanation import Explanation, ExplanationCode
from mail.failure import Failure, FailureKind
from mail.providers.base import Capabilities, Proof
from mail.status import AccountKind, MessageStatus, Verdict, status_of

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
SILENCE = timedelta(hours=72)
JUST_NOW = NOW - timedelta(minutes=1)
ALL = Capabilities(
    delivery=True,
    opens=True,
    machine_opens=True,
    tracking_switch=True,
    metadata=True,
    idempotency=True,
    proof=Proof.SIGNATURE,
)
NO_DELIVERIES = replace(ALL, delivery=False)
NO_OPENS = replace(ALL, opens=False)
REPLY = "550 5.1.1 No such user here"
CHANGES: list[dict[str, Any]] = [
    {},
    {"capabilities": NO_DELIVERIES},
    {"capabilities": NO_OPENS},
    {"scheduled_at": NOW + timedelta(hours=1)},
    {"scheduled_at": NOW - timedelta(hours=1)},
    {"sent_at": NOW - SILENCE},
    {"delivered_at": JUST_NOW},
    {"opened_at": JUST_NOW},
    {"track_opens": False},
    {"attempt_failed": True},
    {"ambiguous": True},
    {"deferred": True},
    {"machine_opened": True},
    {"complained": True},
    {"unsubscribed": True},
    *({"failure": Failure(kind, 550, "5.1.1", REPLY)} for kind in FailureKind),
]


def facts(**changes: Any) -> Facts:
    kind = changes.get("kind", AccountKind.ESP)
    return Facts(
        **{
            "kind": kind,
            "verdict": Verdict.SENT,
            "limit": Verdict.RETURNED if kind.tracked else Verdict.SENT,
            "capabilities": ALL if kind.tracked else None,
            "sent_at": JUST_NOW,
            **changes,
        }
    )


def explained(**changes: Any) -> Explanation:
    return explain(facts(**changes), NOW, SILENCE)


def every_case() -> Iterator[Facts]:
    for kind, verdict, change in product(AccountKind, Verdict, CHANGES):
        yield facts(kind=kind, verdict=verdict, **change)
        yield facts(kind=kind, verdict=verdict, limit=Verdict.SENT, **change)


def test_every_explanation_has_facts_that_lead_to_it() -> None:
    reached = {explain(case, NOW, SILENCE).code for case in every_case()}
    assert set(ExplanationCode) - reached == set()


@given(
    st.builds(
        Facts,
        kind=st.sampled_from(AccountKind),
        verdict=st.sampled_from(Verdict),
        limit=st.sampled_from([Verdict.SENT, Verdict.RETURNED]),
        capabilities=st.sampled_from([None, ALL, NO_DELIVERIES, NO_OPENS]),
        scheduled_at=st.sampled_from([None, NOW - SILENCE, NOW + SILENCE]),
        sent_at=st.sampled_from([None, JUST_NOW, NOW - SILENCE]),
        delivered_at=st.sampled_from([None, JUST_NOW]),
        opened_at=st.sampled_from([None, JUST_NOW]),
        track_opens=st.booleans(),
        attempt_failed=st.booleans(),
        ambiguous=st.booleans(),
        deferred=st.booleans(),
        machine_opened=st.booleans(),
        complained=st.booleans(),
        unsubscribed=st.booleans(),
        failure=st.one_of(st.none(), st.builds(Failure, st.sampled_from(FailureKind), reason=st.just(REPLY))),
    )
)
def test_any_facts_are_explained_in_whole_sentences_and_a_failure_says_what_to_do(case: Facts) -> None:
    said = explain(case, NOW, SILENCE)
    assert said.text
    for sentences in (said.text, said.next_step):
        assert sentences == sentences.strip()
        assert not sentences or sentences.endswith((".", REPLY))
        assert "  " not in sentences
    if status_of(case.verdict, case.limit) in {MessageStatus.FAILED, MessageStatus.NOT_DELIVERED}:
        assert said.next_step.endswith(".")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"verdict": Verdict.QUEUED}, "QUEUED"),
        ({"verdict": Verdict.QUEUED, "scheduled_at": NOW + timedelta(seconds=1)}, "SCHEDULED"),
        ({"verdict": Verdict.QUEUED, "scheduled_at": NOW}, "QUEUED"),
        ({"verdict": Verdict.QUEUED, "attempt_failed": True}, "RETRYING"),
        ({"verdict": Verdict.QUEUED, "attempt_failed": True, "ambiguous": True}, "MAY_ARRIVE_TWICE"),
        ({"verdict": Verdict.CANCELLED}, "CANCELLED"),
        ({"verdict": Verdict.FAILED}, "REFUSED"),
        ({}, "AWAITING_ANSWER"),
        ({"ambiguous": True}, "MAY_ARRIVE_TWICE"),
        ({"deferred": True}, "DELAYED"),
        ({"sent_at": NOW - SILENCE}, "NOT_CONFIRMED"),
        ({"sent_at": NOW - SILENCE + timedelta(microseconds=1)}, "AWAITING_ANSWER"),
        ({"sent_at": NOW - SILENCE, "deferred": True}, "NOT_CONFIRMED"),
        ({"capabilities": NO_DELIVERIES, "sent_at": NOW - SILENCE}, "PROVIDER_CANNOT_CONFIRM"),
        ({"capabilities": NO_DELIVERIES, "deferred": True}, "PROVIDER_CANNOT_CONFIRM"),
        ({"capabilities": NO_DELIVERIES, "machine_opened": True}, "LOADED_BY_PROXY"),
        ({"capabilities": NO_DELIVERIES, "verdict": Verdict.OPENED}, "OPENED"),
        ({"capabilities": NO_DELIVERIES, "verdict": Verdict.DELIVERED, "complained": True}, "COMPLAINED"),
        ({"capabilities": NO_DELIVERIES, "verdict": Verdict.RETURNED}, "NOT_DELIVERED"),
        ({"capabilities": NO_OPENS, "sent_at": NOW - SILENCE}, "NOT_CONFIRMED"),
        ({"kind": AccountKind.GMAIL}, "OWN_SERVER"),
        ({"kind": AccountKind.SMTP, "verdict": Verdict.RETURNED}, "OWN_SERVER"),
        ({"limit": Verdict.SENT, "verdict": Verdict.OPENED}, "BEFORE_TRACKING"),
        ({"verdict": Verdict.DELIVERED}, "DELIVERED"),
        ({"verdict": Verdict.DELIVERED, "track_opens": False}, "TRACKING_OFF"),
        ({"verdict": Verdict.DELIVERED, "capabilities": NO_OPENS}, "OPENS_UNKNOWN"),
        ({"verdict": Verdict.DELIVERED, "capabilities": NO_OPENS, "track_opens": False}, "OPENS_UNKNOWN"),
        ({"verdict": Verdict.DELIVERED, "machine_opened": True}, "LOADED_BY_PROXY"),
        ({"verdict": Verdict.DELIVERED, "complained": True, "machine_opened": True}, "COMPLAINED"),
        ({"verdict": Verdict.DELIVERED, "unsubscribed": True}, "UNSUBSCRIBED"),
        ({"verdict": Verdict.OPENED}, "OPENED"),
        ({"verdict": Verdict.RETURNED_SOFT}, "SOFT_BOUNCE"),
        ({"verdict": Verdict.RETURNED}, "NOT_DELIVERED"),
        ({"verdict": Verdict.RETURNED, "delivered_at": JUST_NOW}, "RETURNED_AFTER_DELIVERY"),
    ],
)
def test_a_message_is_explained_by_the_fact_that_matters_most(changes: dict[str, Any], code: str) -> None:
    assert explained(**changes).code is ExplanationCode[code]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FailureKind.ADDRESS_UNKNOWN, "ADDRESS_UNKNOWN"),
        (FailureKind.DOMAIN_UNKNOWN, "DOMAIN_UNKNOWN"),
        (FailureKind.MAILBOX_FULL, "MAILBOX_FULL"),
        (FailureKind.SPAM, "REFUSED_AS_SPAM"),
        (FailureKind.REPUTATION, "SENDER_REPUTATION"),
        (FailureKind.AUTHENTICATION, "SENDER_AUTHENTICATION"),
        (FailureKind.SUPPRESSED, "SUPPRESSED"),
        (FailureKind.TOO_LARGE, "TOO_LARGE"),
        (FailureKind.POLICY, "REFUSED_BY_POLICY"),
        (FailureKind.UNREACHABLE, "UNREACHABLE"),
        (FailureKind.CONTENT, "CONTENT_INVALID"),
        (FailureKind.ACCOUNT, "ACCOUNT_PROBLEM"),
        (FailureKind.OTHER, "NOT_DELIVERED"),
    ],
)
def test_a_return_for_good_is_explained_by_its_failure_and_quotes_the_server(kind: FailureKind, code: str) -> None:
    said = explained(verdict=Verdict.RETURNED, failure=Failure(kind, 550, "5.1.1", REPLY))
    assert said.code is ExplanationCode[code]
    assert said.text.endswith(f" The server said: {REPLY}")


def test_an_esp_without_deliveries_says_what_would_show_all_the_same() -> None:
    text = "This email service does not report deliveries, so silence is normal; a return would show."
    opens = " An open would show, if the email program loads images."
    delayed = " The destination put it off; whether it arrived later does not show."
    assert explained(capabilities=NO_DELIVERIES).text == text + opens
    assert explained(capabilities=NO_DELIVERIES, track_opens=False).text == text
    neither = replace(NO_DELIVERIES, opens=False)
    assert explained(capabilities=neither) == Explanation(ExplanationCode.PROVIDER_CANNOT_CONFIRM, text)
    said = explained(capabilities=neither, deferred=True)
    assert (said.text, said.next_step) == (text + delayed, "If it matters, call the patient.")


def test_a_return_after_an_open_says_both() -> None:
    said = explained(
        verdict=Verdict.RETURNED,
        delivered_at=JUST_NOW,
        opened_at=JUST_NOW,
        failure=Failure(FailureKind.MAILBOX_FULL, reason=REPLY),
    )
    assert said == Explanation(
        ExplanationCode.RETURNED_AFTER_DELIVERY,
        "It was first reported as opened, then it came back, so the patient may not have it. "
        f"The patient's mailbox is full. The server said: {REPLY}",
        "Call the patient; send again once there is room.",
    )


def test_a_refusal_quotes_the_server_and_says_what_to_do() -> None:
    assert explained(verdict=Verdict.FAILED, failure=Failure(FailureKind.ADDRESS_UNKNOWN, reason=REPLY)) == Explanation(
        ExplanationCode.REFUSED,
        f"The mail server refused it, so nobody accepted it. It said: {REPLY}",
        "Check the spelling of the address with the patient, correct it and send again.",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": AccountKind.SMTP},
        {"capabilities": NO_DELIVERIES},
        {},
        *({"verdict": Verdict.DELIVERED, **change} for change in CHANGES[:3]),
        {"verdict": Verdict.DELIVERED, "machine_opened": True},
        {"verdict": Verdict.DELIVERED, "complained": True},
        {"verdict": Verdict.DELIVERED, "unsubscribed": True},
        {"verdict": Verdict.DELIVERED, "track_opens": False},
        {"verdict": Verdict.OPENED},
        {"verdict": Verdict.QUEUED},
    ],
)
def test_what_may_arrive_twice_says_so_beside_everything_else(changes: dict[str, Any]) -> None:
    assert "it may arrive twice." in explained(ambiguous=True, **changes).text
    assert "twice" not in explained(**changes).text


def test_a_refusal_after_an_ambiguous_attempt_does_not_say_that_nobody_accepted_it() -> None:
    facts = Facts(kind=AccountKind.SMTP, verdict=Verdict.FAILED, limit=Verdict.SENT)

    assert "nobody accepted it" in explain(facts, NOW, SILENCE).text
    text = explain(replace(facts, ambiguous=True), NOW, SILENCE).text
    assert "nobody accepted it" not in text
    assert "it may have arrived" in text
