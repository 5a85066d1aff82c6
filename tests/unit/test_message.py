"""The checks on what staff wrote: what passes can be sent, what doesn't is refused with a stable code."""

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import InvalidEmail
from mail.ids import MessageId
from mail.message import (
    BODY_LIMIT,
    NAME_LIMIT,
    SUBJECT_LIMIT,
    Address,
    Email,
    check_address,
    check_body,
    check_name,
    check_subject,
    one_header_line,
    rfc_message_id,
)

ENDS_A_LINE = ["\r", "\n", "\r\n", "\x00", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
HIDES_IN_A_LINE = ["\x01", "\x07", "\x08", "\x1b", "\x7f", "\x9b", "\ud800", "\udcff", "\udfff"]


def refusal(check: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(InvalidEmail) as caught:
        check()
    assert caught.value.message
    assert str(caught.value) == caught.value.message
    return caught.value.field, caught.value.code


@pytest.mark.parametrize("character", ENDS_A_LINE + HIDES_IN_A_LINE)
def test_what_ends_a_line_or_hides_in_it_is_refused_in_every_header_field(character: str) -> None:
    value = f"a{character}Bcc: b@mail.example"
    assert refusal(lambda: check_subject(value)) == ("subject", "INVALID_CHARACTER")
    assert refusal(lambda: check_name("name", value)) == ("name", "INVALID_CHARACTER")
    assert refusal(lambda: check_address("email", f"a{character}b@mail.example")) == ("email", "INVALID_CHARACTER")
    assert refusal(lambda: check_address("replyTo", f"a@mail.{character}example"))[0] == "replyTo"


@given(st.text(max_size=40), st.characters(categories=["Cc", "Cs", "Zl", "Zp"]), st.text(max_size=40))
def test_no_text_with_a_control_character_inside_passes(before: str, character: str, after: str) -> None:
    value = f"a{before}{character}{after}a"
    assert refusal(lambda: one_header_line("subject", value, 1000)) == ("subject", "INVALID_CHARACTER")


@given(st.text(max_size=60))
def test_what_passes_is_one_printable_line_and_passes_again_unchanged(value: str) -> None:
    try:
        line = one_header_line("subject", value, 100)
    except InvalidEmail:
        return
    assert len(line.splitlines()) <= 1
    assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in line)
    assert one_header_line("subject", line, 100) == line
    line.encode()


def test_a_line_is_stripped_and_composed() -> None:
    assert check_subject("  Gru\u0308ße \n") == "Gr\u00fcße"
    assert check_name("name", "\tZoe\u0308 ") == "Zo\u00eb"


@pytest.mark.parametrize("value", ["", " ", "\t", "\n", "\u3000", "\u2028"])
def test_a_subject_and_a_name_are_required(value: str) -> None:
    assert refusal(lambda: check_subject(value)) == ("subject", "REQUIRED")
    assert refusal(lambda: check_name("fromName", value)) == ("fromName", "REQUIRED")


def test_the_longest_that_passes_and_the_shortest_that_does_not() -> None:
    assert check_subject("x" * SUBJECT_LIMIT) == "x" * 500
    assert refusal(lambda: check_subject("x" * 501)) == ("subject", "TOO_LONG")
    assert check_name("name", "ü" * NAME_LIMIT) == "ü" * 200
    assert refusal(lambda: check_name("name", "ü" * 201)) == ("name", "TOO_LONG")
    assert check_body("text", "x" * BODY_LIMIT) == "x" * 1_000_000
    assert refusal(lambda: check_body("text", "x" * 1_000_001)) == ("text", "TOO_LONG")


def test_a_body_of_ten_megabytes_is_refused_by_its_length_alone() -> None:
    assert refusal(lambda: check_body("html", "\x00" * 10_000_000)) == ("html", "TOO_LONG")


@pytest.mark.parametrize("character", ["\x00", "\ud800"])
def test_a_body_takes_no_nul_and_no_lone_surrogate(character: str) -> None:
    assert refusal(lambda: check_body("text", f"Hello{character}")) == ("text", "INVALID_CHARACTER")
    assert refusal(lambda: check_body("html", character)) == ("html", "INVALID_CHARACTER")


@pytest.mark.parametrize("body", ["", "\r\n\t\n\r", "\u2028 \x0b \x1b \x85", "😀 ü"])
def test_a_body_may_hold_any_other_character(body: str) -> None:
    assert check_body("text", body) == body


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("Pat.Doe+x@Mail.Example", "Pat.Doe+x@mail.example"),
        ("  pat@mail.example ", "pat@mail.example"),
        ("o'neil@mail.example", "o'neil@mail.example"),
        ("pät@mail.example", "pät@mail.example"),
        ("pat@EXÄMPLE.com", "pat@exämple.com"),
        ("pat@xn--exmple-cua.com", "pat@exämple.com"),
        ("pat@practice.test", "pat@practice.test"),
    ],
)
def test_an_address_gets_its_normal_form(given: str, normal: str) -> None:
    assert check_address("email", given) == normal


@pytest.mark.parametrize(
    "value",
    [
        "",
        "pat",
        "@mail.example",
        "pat@",
        "pat@mail",
        "pat@@mail.example",
        "pat doe@mail.example",
        "pat@mail..example",
        "pat@-mail.example",
        ".pat@mail.example",
        "pat@[127.0.0.1]",
        "Pat <pat@mail.example>",
        "pat@mail.example, eve@mail.example",
        "pat@mail.example;eve@mail.example",
        "pat@mail.example\tBcc",
        "<pat@mail.example>",
        f"pat@{'x' * 64}.example",
    ],
)
def test_what_is_no_address_is_refused(value: str) -> None:
    field, code = refusal(lambda: check_address("email", value))
    assert field == "email"
    assert code == ("INVALID_CHARACTER" if "\t" in value else "INVALID_ADDRESS")


def test_an_endless_address_is_refused_by_its_length() -> None:
    assert refusal(lambda: check_address("email", "a" * 1_000_000 + "@mail.example")) == ("email", "TOO_LONG")


@given(
    st.one_of(st.text(max_size=40), st.emails(), st.builds("{}@{}".format, st.text(max_size=9), st.text(max_size=9)))
)
def test_any_address_is_refused_or_passes_in_its_normal_form(value: str) -> None:
    try:
        normal = check_address("email", value)
    except InvalidEmail:
        return
    assert check_address("email", normal) == normal
    assert len(normal.split()) == 1
    assert not set(normal) & set('<>,;:"()[]\\')


def test_the_message_id_is_made_of_our_id_and_the_senders_domain() -> None:
    message_id = MessageId(UUID("019b76da-a800-7000-8000-000000000001"))
    sender = Address("hello@northgate.example", "Northgate")
    email = Email(
        id=message_id,
        sender=sender,
        recipient=Address("pat@mail.example"),
        subject="s",
        text="t",
        date=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert email.rfc_message_id == "<019b76daa80070008000000000000001@northgate.example>"
    assert rfc_message_id(message_id, sender) == email.rfc_message_id
    assert sender.domain == "northgate.example"
