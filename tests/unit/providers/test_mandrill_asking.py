"""Mandrill: what the history of a message tells."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mail.event import EventKind
from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Askable, HttpResponse, NotTold, Reading, Told
from tests.support.providers.mandrill import encode
from tests.support.providers.sample import MESSAGE_ID, QUESTION

MANDRILL = provider("mandrill")
CREDENTIALS = {"api_key": "md-key"}
ASKED = replace(QUESTION, provider_message_id="1dbc399ff23847f1a7bd5bcc047b3089")
# Messages, "Get message info".
INFO: dict[str, Any] = {
    "ts": 1427800850,
    "_id": "1dbc399ff23847f1a7bd5bcc047b3089",
    "sender": "sender@example.com",
    "template": None,
    "subject": "example subject",
    "email": "recipient.email@example.com",
    "tags": ["password-reset"],
    "opens": 0,
    "opens_detail": [],
    "clicks": 0,
    "clicks_detail": [],
    "state": "sent",
    "metadata": {},
    "smtp_events": [],
    "resends": [],
    "reject": None,
}


def tell(body: Any, status: int = 200, **headers: str) -> Told | NotTold:
    assert isinstance(MANDRILL, Askable)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return MANDRILL.read_told(HttpResponse(status, named, json.dumps(body).encode()), ASKED, CREDENTIALS)


def told(**changed: Any) -> Told:
    said = tell({**INFO, **changed})
    assert isinstance(said, Told)
    return said


def smtp(type_: str, diag: str, ts: int = 1427800855) -> dict[str, Any]:
    return {
        "ts": ts,
        "type": type_,
        "diag": diag,
        "source_ip": "198.2.128.3",
        "destination_ip": "192.0.2.26",
        "size": 1,
    }


def test_one_message_is_asked_for_by_its_id() -> None:
    assert isinstance(MANDRILL, Askable)
    request = MANDRILL.ask_request(ASKED, CREDENTIALS)
    assert request is not None
    assert (request.method, request.url) == ("POST", "https://mandrillapp.com/api/1.0/messages/info.json")
    assert json.loads(request.body) == {"key": "md-key", "id": "1dbc399ff23847f1a7bd5bcc047b3089"}
    assert MANDRILL.ask_request(replace(ASKED, provider_message_id=None), CREDENTIALS) is None


@pytest.mark.parametrize(
    ("event", "kind", "detail", "failure"),
    [
        (smtp("sent", "250 2.0.0 OK 1427800855 s44si7119005yho.99 - gsmtp"), EventKind.DELIVERED, "delivered", None),
        (smtp("sent", ""), EventKind.ACCEPTED, "send", None),
        (
            smtp("deferred", "451 4.7.1 greylisted"),
            EventKind.DEFERRED,
            "deferral",
            Failure(FailureKind.POLICY, 451, "4.7.1", "451 4.7.1 greylisted"),
        ),
        (
            smtp("bounced", "550 5.1.1 no such user"),
            EventKind.BOUNCED,
            "hard_bounce",
            Failure(FailureKind.ADDRESS_UNKNOWN, 550, "5.1.1", "550 5.1.1 no such user"),
        ),
        (
            smtp("soft-bounced", "552 5.2.2 full"),
            EventKind.BOUNCED,
            "soft_bounce",
            Failure(FailureKind.MAILBOX_FULL, 552, "5.2.2", "552 5.2.2 full"),
        ),
        (smtp("of tomorrow", "?"), EventKind.UNKNOWN, "of tomorrow", None),
    ],
)
def test_the_recipients_server_has_said_what_it_did(
    event: dict[str, Any], kind: EventKind, detail: str, failure: Failure | None
) -> None:
    (said,) = told(smtp_events=[event]).reading.events
    assert (said.kind, said.detail, said.failure) == (kind, detail, failure)
    assert (said.message_id, said.provider_message_id) == (MESSAGE_ID, INFO["_id"])
    assert said.recipient == "recipient.email@example.com"
    assert said.occurred_at == datetime(2015, 3, 31, 11, 20, 55, tzinfo=UTC)


def test_opens_and_clicks_are_told_with_their_times() -> None:
    opens = [
        {"ts": 1427801000, "ip": "192.0.2.1", "location": "Georgia, US", "ua": "Linux/Ubuntu/Chrome/Chrome 28.0"},
        {"ts": 1427800900, "ip": "192.0.2.2", "location": "US", "ua": "Mozilla/5.0"},
    ]
    clicks = [{"ts": 1427801001, "url": "http://www.example.com", "ip": "192.0.2.1", "location": "US", "ua": "Linux"}]
    events = told(opens=2, opens_detail=opens, clicks=1, clicks_detail=clicks).reading.events
    assert [(event.kind, event.machine) for event in events] == [
        (EventKind.OPENED, False),
        (EventKind.OPENED, True),
        (EventKind.CLICKED, False),
    ]
    assert [event.occurred_at.minute for event in events] == [23, 21, 23]


def test_the_history_has_the_keys_of_the_webhooks() -> None:
    history = told(
        smtp_events=[smtp("deferred", "451 later", 1427800851), smtp("sent", "250 OK", 1427800855)],
        opens_detail=[{"ts": 1427801000, "ua": "x"}],
        clicks_detail=[{"ts": 1427801001, "url": "http://www.example.com", "ua": "x"}],
    )
    msg = {"_id": INFO["_id"], "metadata": {"carepost_message_id": str(MESSAGE_ID)}}
    posted = [
        {"event": "deferral", "ts": 1427800851, "msg": msg},
        {"event": "delivered", "ts": 1427800855, "msg": msg},
        {"event": "open", "ts": 1427801000, "msg": msg},
        {"event": "click", "ts": 1427801001, "url": "http://www.example.com", "msg": msg},
    ]
    webhooks = MANDRILL.read_webhook(encode(posted), {}).events
    assert [event.dedupe_key for event in history.reading.events] == [event.dedupe_key for event in webhooks]
    assert [event.kind for event in history.reading.events] == [event.kind for event in webhooks]


def test_a_bounce_that_came_after_the_delivery_stands_in_the_state() -> None:
    changed = {
        "state": "bounced",
        "smtp_events": [smtp("sent", "250 2.0.0 OK")],
        "diag": 'X-Postfix; unknown user: "ada"',
        "bgtools_code": 10,
        "bounce_description": "bad_mailbox",
    }
    delivered, bounced = told(**changed).reading.events
    assert delivered.kind is EventKind.DELIVERED
    assert (bounced.kind, bounced.detail) == (EventKind.BOUNCED, "hard_bounce/bad_mailbox")
    assert bounced.failure == Failure(FailureKind.ADDRESS_UNKNOWN, reason='X-Postfix; unknown user: "ada"')
    assert bounced.occurred_at == datetime(2015, 3, 31, 11, 20, 55, tzinfo=UTC)


def test_a_bounce_is_told_once() -> None:
    events = told(state="bounced", smtp_events=[smtp("bounced", "550 5.1.1 no")]).reading.events
    assert [event.kind for event in events] == [EventKind.BOUNCED]


def test_a_rejection_is_told_with_its_reason_and_the_time_of_the_email() -> None:
    (event,) = told(
        state="rejected", reject={"reason": "hard-bounce", "last_event_at": "2014-02-01 12:43:56"}
    ).reading.events
    assert (event.kind, event.failure) == (EventKind.REJECTED, Failure(FailureKind.SUPPRESSED, reason="hard-bounce"))
    assert event.occurred_at == datetime(2015, 3, 31, 11, 20, 50, tzinfo=UTC)


def test_a_message_of_which_nothing_is_known_was_told_of_all_the_same() -> None:
    assert told() == Told(Reading())
    assert told(smtp_events=None, opens_detail=7, clicks_detail=[None, 7]) == Told(Reading())


def test_a_broken_entry_is_set_aside_alone() -> None:
    said = told(smtp_events=[{"type": "sent", "diag": "250 OK", "ts": "x"}, smtp("deferred", "451 later")])
    assert [event.kind for event in said.reading.events] == [EventKind.DEFERRED]
    assert [part.index for part in said.reading.unreadable] == [0]


def test_another_message_than_the_one_asked_for_is_not_taken() -> None:
    nothing = NotTold(Failure(FailureKind.OTHER, reason="Mandrill told of no message or another one"))
    assert tell({**INFO, "_id": "another", "smtp_events": [smtp("sent", "250 OK")]}) == nothing
    assert tell([]) == nothing


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Unknown_Message", FailureKind.OTHER),
        ("Invalid_Key", FailureKind.ACCOUNT),
        ("GeneralError", FailureKind.OTHER),
    ],
)
def test_an_error_tells_nothing_and_says_why(name: str, kind: FailureKind) -> None:
    said = tell({"status": "error", "code": 4, "name": name, "message": "It says why."}, 500)
    assert said == NotTold(Failure(kind, reason="It says why."))


def test_a_rate_limit_is_waited_for_as_asked() -> None:
    assert tell("", 429, retry_after="7") == NotTold(
        Failure(FailureKind.ACCOUNT, reason="HTTP 429"), timedelta(seconds=7)
    )
