import json
from copy import deepcopy

import pytest

from carepost.sandbox.vendors.sendgrid import submission
from carepost.sandbox.vendors.sendgrid.submission import SubmissionRefused

GOOD = {
    "personalizations": [{"to": [{"email": "a@x.example"}], "custom_args": {"id": "1"}}],
    "from": {"email": "desk@practice.example", "name": "Desk"},
    "subject": "Hello",
    "content": [{"type": "text/plain", "value": "hi"}],
}


def complaints(document) -> list[str | None]:
    with pytest.raises(SubmissionRefused) as refusal:
        submission.read(document if isinstance(document, bytes) else json.dumps(document).encode())
    return [complaint.field for complaint in refusal.value.complaints]


def test_a_good_submission_is_read():
    document = deepcopy(GOOD)
    document["headers"] = {"Message-ID": "<1@practice.example>"}
    document["custom_args"] = {"id": "0", "kind": "reminder"}
    document["personalizations"][0]["cc"] = [{"email": "b@x.example"}]
    document["tracking_settings"] = {"open_tracking": {"enable": False}}
    read = submission.read(json.dumps(document).encode())
    first = read.letters[0]
    assert [letter.recipient for letter in read.letters] == ["a@x.example", "b@x.example"]
    assert first.metadata == {"id": "1", "kind": "reminder"}
    assert first.headers == {"Message-ID": "<1@practice.example>"}
    assert first.subject == "Hello"
    assert (first.sender, first.open_tracking, read.dry_run) == ("desk@practice.example", False, False)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"personalizations": []}, "personalizations"),
        ({"personalizations": [3]}, "personalizations.0"),
        ({"personalizations": [{"to": []}]}, "personalizations.0.to"),
        ({"personalizations": [{"to": [{"email": "nobody"}]}]}, "personalizations.0.to.0.email"),
        ({"personalizations": [{"to": [{"email": "A@x.ex"}, {"email": "a@x.ex"}]}]}, "personalizations.0.to.1.email"),
        ({"personalizations": [{"to": [{"email": f"{n}@x.example"} for n in range(1001)]}]}, "personalizations"),
        ({"from": None}, "from"),
        ({"from": {"email": "a b@x.example"}}, "from.email"),
        ({"reply_to": {"email": ""}}, "reply_to.email"),
        ({"subject": ""}, "subject"),
        ({"content": []}, "content"),
        ({"content": [{"type": "text/plain", "value": ""}]}, "content.0.value"),
        ({"content": [{"value": "hi"}]}, "content.0.type"),
        ({"content": [{"type": "text/html", "value": "x"}, {"type": "text/plain", "value": "x"}]}, "content"),
        ({"custom_args": {"n": 1}}, "custom_args"),
        ({"custom_args": {"n": "x" * 10_001}}, "custom_args"),
        ({"headers": {"Subject": "other"}}, "headers"),
        ({"tracking_settings": {"open_tracking": True}}, "tracking_settings"),
        ({"send_at": "now"}, "send_at"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(change, field):
    assert complaints(GOOD | change) == [field]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"null", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(body):
    assert complaints(body) == [None]


def test_a_template_needs_neither_subject_nor_content():
    document = {"template_id": "d-1"} | {name: GOOD[name] for name in ("from", "personalizations")}
    assert submission.read(json.dumps(document).encode()).letters[0].content == []
