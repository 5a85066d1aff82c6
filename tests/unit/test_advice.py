"""Advice on an account follows from what is noted and counted of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.advice import Advice, AdviceCode, Counts, Notes, Severity, advise
from mail.providers import PROVIDERS, provider
from mail.providers.base import Asking, Provider

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=1)
NOTHING = Counts(0, 0, 0, 0, 0)
HEARD = Notes(last_event_at=NOW)
REFUSED: dict[str, Any] = {"signature_failures": 3, "signature_failed_at": NOW}
SENDGRID, POSTMARK = provider("sendgrid"), provider("postmark")


class Mandrill(type(SENDGRID)):  # type: ignore[misc]
    """An ESP that reports no deliveries."""

    label = "Mandrill"
    capabilities = replace(SENDGRID.capabilities, delivery=False)


def codes(notes: Notes, counts: Counts = NOTHING, esp: Provider | None = SENDGRID) -> list[str]:
    return [f"{advice.code.name} {advice.severity.name}" for advice in advise(esp, notes, counts, NOW)]


def only(notes: Notes, counts: Counts = NOTHING, esp: Provider | None = SENDGRID) -> Advice:
    [advice] = advise(esp, notes, counts, NOW)
    return advice


def test_an_account_of_which_nothing_is_known_is_ok() -> None:
    assert only(Notes()) == Advice(AdviceCode.OK, Severity.OK, "Nothing is wrong that we know of.")
    assert only(Notes(), esp=None).code is AdviceCode.OK


@pytest.mark.parametrize(
    ("notes", "counts", "expected"),
    [
        ({"key_refused_at": EARLIER, "refusal": "Bad token"}, {}, ["KEY_REFUSED PROBLEM"]),
        ({"key_ok": False, "key_text": "SendGrid refuses the key."}, {}, ["KEY_REFUSED PROBLEM"]),
        ({"key_refused_at": EARLIER, "refusal": "Bad token", "key_ok": False}, {}, ["KEY_REFUSED PROBLEM"]),
        ({"key_ok": None}, {}, ["OK OK"]),
        ({"key_ok": True, "key_expires_at": NOW + timedelta(days=15)}, {}, ["OK OK"]),
        ({"key_ok": True, "key_expires_at": NOW + timedelta(days=14)}, {}, ["KEY_EXPIRES_SOON WARNING"]),
        ({"key_ok": True, "key_expires_at": NOW}, {}, ["KEY_EXPIRED PROBLEM"]),
        ({**REFUSED, "last_event_at": EARLIER}, {}, ["SIGNATURES_REFUSED PROBLEM"]),
        ({**REFUSED, "last_event_at": None}, {}, ["SIGNATURES_REFUSED PROBLEM"]),
        ({**REFUSED, "signature_failed_at": EARLIER}, {}, ["SOME_SIGNATURES_REFUSED NOTE"]),
        ({}, {"unconfirmed_subscriptions": 1}, ["SUBSCRIPTION_UNCONFIRMED PROBLEM"]),
        ({"webhook_confirmed_at": EARLIER}, {"unconfirmed_subscriptions": 1}, ["SUBSCRIPTION_UNCONFIRMED WARNING"]),
        ({"last_event_at": None}, {"waiting": 1}, ["WEBHOOK_NEVER_HEARD PROBLEM"]),
        ({"last_event_at": None, "told_at": NOW}, {}, ["WEBHOOK_NEVER_HEARD PROBLEM"]),
        ({"last_event_at": None}, {"waiting": 3, "unconfirmed": 2}, ["WEBHOOK_NEVER_HEARD PROBLEM"]),
        (
            {"last_event_at": None, "signature_failures": 1, "signature_failed_at": NOW},
            {"waiting": 1},
            ["SIGNATURES_REFUSED PROBLEM"],
        ),
        ({}, {"waiting": 1}, ["OK OK"]),
        ({"told_at": NOW, "last_event_at": EARLIER}, {}, ["WEBHOOKS_MISSED WARNING"]),
        ({"told_at": EARLIER}, {}, ["OK OK"]),
        ({}, {"unconfirmed": 2}, ["NOT_CONFIRMED WARNING"]),
        ({"asking_refused_at": EARLIER}, {}, ["ASKING_REFUSED WARNING"]),
        ({}, {"unreadable": 1}, ["UNREADABLE WARNING"]),
        ({}, {"parked": 1}, ["PARKED NOTE"]),
    ],
)  # fmt: skip
def test_each_fact_leads_to_its_advice(notes: dict[str, Any], counts: dict[str, int], expected: list[str]) -> None:
    assert codes(replace(HEARD, **notes), replace(NOTHING, **counts)) == expected


def test_the_worst_comes_first_and_all_of_it_is_said() -> None:
    notes = Notes(
        key_refused_at=EARLIER,
        refusal="Bad token",
        key_expires_at=NOW + timedelta(days=1),
        signature_failures=1,
        signature_failed_at=EARLIER,
        last_event_at=NOW,
        asking_refused_at=NOW,
    )
    assert codes(notes, replace(NOTHING, parked=1, unreadable=1)) == [
        "KEY_REFUSED PROBLEM",
        "KEY_EXPIRES_SOON WARNING",
        "ASKING_REFUSED WARNING",
        "UNREADABLE WARNING",
        "SOME_SIGNATURES_REFUSED NOTE",
        "PARKED NOTE",
    ]


def test_a_refused_key_is_told_in_the_words_of_who_refuses() -> None:
    assert only(replace(HEARD, key_refused_at=EARLIER, refusal="Bad token")) == Advice(
        AdviceCode.KEY_REFUSED,
        Severity.PROBLEM,
        "SendGrid refuses this account, so emails don't go out. It said: Bad token",
        "Look at the key and at the account at SendGrid, and enter credentials that it takes.",
    )
    own = only(Notes(key_refused_at=EARLIER, refusal="535 5.7.8 Bad credentials"), esp=None)
    assert (
        own.text == "The mail server refuses this account, so emails don't go out. It said: 535 5.7.8 Bad credentials"
    )
    assert (
        own.next_step == "Look at the key and at the account at the mail server, and enter credentials that it takes."
    )


def test_the_end_of_a_key_is_told_with_its_day() -> None:
    soon = only(replace(HEARD, key_expires_at=datetime(2026, 3, 7, 8, tzinfo=UTC)))
    assert soon.text == "The key of SendGrid ends on 7 March 2026; after that no email goes out."


def test_silence_of_an_esp_that_reports_no_deliveries_is_normal() -> None:
    assert codes(HEARD, replace(NOTHING, unconfirmed=900), Mandrill()) == ["OK OK"]


def test_what_a_refused_webhook_needs_depends_on_its_proof() -> None:
    notes = Notes(signature_failures=1, signature_failed_at=NOW)
    assert "verification key" in only(notes).next_step
    assert (
        only(notes, esp=POSTMARK).text == "Postmark's webhooks are refused, once so far: their password doesn't hold."
    )
    assert "anew" in only(notes, esp=POSTMARK).next_step


def test_what_asking_needs_is_told_where_the_esp_sells_it() -> None:
    needs = replace(POSTMARK.capabilities, asking=Asking(1, 5, "Email Logs, an add-on."))

    class Selling(type(POSTMARK)):  # type: ignore[misc]
        capabilities = needs

    assert only(replace(HEARD, asking_refused_at=NOW), esp=Selling()).next_step == (
        "Asking needs this: Email Logs, an add-on."
    )


TIMES = st.none() | st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
NOTES = st.builds(
    Notes,
    last_event_at=TIMES,
    signature_failures=st.integers(0, 3),
    signature_failed_at=TIMES,
    webhook_confirmed_at=TIMES,
    key_refused_at=TIMES,
    refusal=st.none() | st.text(max_size=20),
    key_checked_at=TIMES,
    key_ok=st.none() | st.booleans(),
    key_text=st.none() | st.text(max_size=20),
    key_expires_at=TIMES,
    asking_refused_at=TIMES,
    told_at=TIMES,
)
COUNTS = st.builds(Counts, *([st.integers(0, 3)] * 5))


@given(st.sampled_from([None, *PROVIDERS.values()]), NOTES, COUNTS)
def test_whatever_the_facts_there_is_advice_that_says_what_to_do(
    esp: Provider | None, notes: Notes, counts: Counts
) -> None:
    found = advise(esp, notes, counts, NOW)
    assert found
    assert len({advice.code for advice in found}) == len(found)
    for advice in found:
        assert advice.text
        assert advice.next_step or advice.severity in {Severity.OK, Severity.NOTE}
    assert ([advice.code for advice in found] == [AdviceCode.OK]) == (found[0].severity is Severity.OK)
