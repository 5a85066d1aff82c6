"""An email as bytes: what staff wrote comes out of it again, and nothing that they didn't write is in it."""

import email.policy
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mail import mime
from mail.errors import InvalidEmail
from mail.ids import MessageId
from mail.message import Address, Email, check_body, check_name, check_subject
from mail.mime import render

MESSAGE_ID = MessageId(UUID("019b76da-a800-7000-8000-000000000001"))
HEADERS = [
    "From",
    "To",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "Content-Type",
    "Content-Transfer-Encoding",
    "MIME-Version",
]
LOOK_LIKE_ENCODED_WORDS = [
    "=?utf-8?q?foo?=",
    "=?utf-8?q?foo=0D=0ABcc:_eve@mail.example?=",
    "=?utf-8?b?DQpCY2M6IGV2ZUBtYWlsLmV4YW1wbGU=?=",
    "=?utf-8?b?abc?=",
    "ä =?utf-8?q?=0D=0A=0D=0Abody?=",
    "=?",
    "a=?=b",
]


def make(**fields: Any) -> Email:
    return Email(
        **{
            "id": MESSAGE_ID,
            "sender": Address("hello@northgate.example", "Northgate Practice"),
            "recipient": Address("pat@mail.example", "Pat Example"),
            "reply_to": Address("desk@northgate.example"),
            "subject": "Your results are ready",
            "text": "Please call us.",
            "date": datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
            **fields,
        }
    )


def parse(rendered: bytes) -> EmailMessage:
    message = BytesParser(policy=email.policy.default).parsebytes(rendered)
    assert isinstance(message, EmailMessage)
    return message


def bodies(message: EmailMessage) -> list[str]:
    """The text of each part, as the standard library decodes it, without the line end that a part ends with."""
    return [_with_lf(part.get_content()) for part in message.walk() if not part.is_multipart()]


def name_in(message: EmailMessage, header: str) -> str:
    """A display name as it is read; the standard library puts a space between folded words, which RFC 2047
    section 6.2 says to ignore, so spaces are left out."""
    return "".join(message[header].addresses[0].display_name.split())


def test_a_plain_email_is_these_bytes() -> None:
    assert render(make()) == (
        b'From: "Northgate Practice" <hello@northgate.example>\r\n'
        b'To: "Pat Example" <pat@mail.example>\r\n'
        b"Reply-To: desk@northgate.example\r\n"
        b"Subject: Your results are ready\r\n"
        b"Date: Sun, 01 Mar 2026 09:30:00 +0000\r\n"
        b"Message-ID: <019b76daa80070008000000000000001@northgate.example>\r\n"
        b"Auto-Submitted: auto-generated\r\n"
        b'Content-Type: text/plain; charset="utf-8"\r\n'
        b"Content-Transfer-Encoding: quoted-printable\r\n"
        b"MIME-Version: 1.0\r\n"
        b"\r\n"
        b"Please call us.\r\n"
    )


def test_every_attempt_has_the_same_bytes() -> None:
    written = make(html="<p>Grüße</p>", subject="Grüße")
    assert render(written) == render(written)


def test_without_a_reply_address_there_is_no_such_header() -> None:
    assert "Reply-To" not in parse(render(make(reply_to=None)))


@pytest.mark.parametrize(
    "name", ["Zoë Müller-Łukasz", "山田 太郎", "😀" * 50, "x" * 200, "ü" * 200, 'O"Neil \\, <x>', "a  b"]
)
def test_a_name_of_any_script_is_read_as_it_was_written(name: str) -> None:
    message = parse(render(make(recipient=Address("pat@mail.example", name), sender=Address("a@b.example", name))))
    for header, address in (("To", "pat@mail.example"), ("From", "a@b.example")):
        assert name_in(message, header) == "".join(name.split())
        assert message[header].addresses[0].addr_spec == address
        assert len(message[header].addresses) == 1
    assert message.defects == []


@pytest.mark.parametrize("subject", ["Grüße aus Köln", "検査結果", "x" * 500, "ü" * 500, "😀" * 500, "a  b", "ü  =?  "])
def test_a_subject_of_any_script_is_read_as_it_was_written(subject: str) -> None:
    assert parse(render(make(subject=subject)))["Subject"] == subject


@pytest.mark.parametrize("value", LOOK_LIKE_ENCODED_WORDS)
def test_what_looks_like_an_encoded_word_is_written_literally_and_adds_no_header(value: str) -> None:
    rendered = render(
        make(subject=value, recipient=Address("pat@mail.example", value), sender=Address("a@b.example", value))
    )
    message = parse(rendered)
    assert message.keys() == HEADERS
    assert message["Subject"] == value
    assert name_in(message, "To") == "".join(value.split())
    assert bodies(message) == ["Please call us."]


def test_an_address_beyond_ascii_is_written_as_utf_8() -> None:
    rendered = render(make(recipient=Address("pät@exämple.example", "Pät")))
    assert "To: =?utf-8?q?P=C3=A4t?= <pät@exämple.example>\r\n".encode() in rendered


def test_text_and_html_are_alternatives_with_the_text_first() -> None:
    message = parse(render(make(text="Grüße\n.\nEnde", html="<p>Grüße</p>")))
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert bodies(message) == ["Grüße\n.\nEnde", "<p>Grüße</p>"]


def test_a_body_that_quotes_its_boundary_stays_whole() -> None:
    text = f"a\n--=_{MESSAGE_ID.hex}--\nb"
    message = parse(render(make(text=text, html=text)))
    assert bodies(message) == [text, text]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a\rb", "a\nb"),
        ("a\nb", "a\nb"),
        ("a\r\nb", "a\nb"),
        ("a\r\r\nb", "a\n\nb"),
        ("a\n\rb", "a\n\nb"),
        ("\n\n", "\n"),
        ("", ""),
    ],
)
def test_every_way_to_end_a_line_becomes_crlf(written: str, read: str) -> None:
    rendered = render(make(text=written, html=f"<p>{written}</p>"))
    assert b"\r" not in rendered.replace(b"\r\n", b"")
    assert b"\n" not in rendered.replace(b"\r\n", b"")
    assert bodies(parse(render(make(text=written))))[0] == read


@pytest.mark.parametrize("letter", ["a", "ü", "😀", " ", "="])
def test_the_longest_body_in_one_line_is_folded_and_whole(letter: str) -> None:
    text = letter * 300_000 + "."
    rendered = render(make(text=text))
    assert max(map(len, rendered.split(b"\r\n"))) <= 78
    assert bodies(parse(rendered)) == [text]


def test_a_body_of_ten_megabytes_renders_in_seconds() -> None:
    started = time.process_time()
    rendered = render(make(text="Grüße und Küsse, immer wieder.\n" * 340_000))
    assert len(rendered) > 10_000_000
    assert time.process_time() - started < 20


def checked(check: Any, *arguments: str) -> str:
    try:
        value: str = check(*arguments)
    except InvalidEmail:
        assume(False)
    return value


texts = st.one_of(
    st.text(max_size=80), st.sampled_from(LOOK_LIKE_ENCODED_WORDS), st.text("=?utf-8qb_0DA\r\n:ü ", max_size=80)
)


@given(texts, texts, texts, st.one_of(st.none(), texts))
@example("=?utf-8?q?x=0D=0AA:_b?=", "=?utf-8?q?x=0D=0AA:_b?=", "\r", "\n--\n")
def test_whatever_passes_the_checks_adds_no_header_and_is_read_as_it_was_written(
    name: str, subject: str, text: str, html: str | None
) -> None:
    name, subject = checked(check_name, "name", name), checked(check_subject, subject)
    text = checked(check_body, "text", text)
    html = checked(check_body, "html", html) if html is not None else None
    someone = Address("someone@mail.example", name)
    rendered = render(make(sender=someone, recipient=someone, reply_to=someone, subject=subject, text=text, html=html))
    assert rendered.isascii()
    assert max(map(len, rendered.split(b"\r\n"))) <= 998
    assert b"\r" not in rendered.replace(b"\r\n", b"")
    assert b"\n" not in rendered.replace(b"\r\n", b"")
    message = parse(rendered)
    assert sorted(message.keys()) == sorted(
        HEADERS if html is None else [header for header in HEADERS if header != "Content-Transfer-Encoding"]
    )
    assert message["Subject"] == subject
    for header in ("From", "To", "Reply-To"):
        assert name_in(message, header) == "".join(name.split())
        assert [address.addr_spec for address in message[header].addresses] == ["someone@mail.example"]
    assert bodies(message) == [_with_lf(body) for body in (text, html) if body is not None]


letters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
printable = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
written_texts = st.one_of(st.text(letters, max_size=200), st.text("=_-.0\r\n", max_size=80))
lines = st.one_of(st.text(printable, max_size=80), st.sampled_from(LOOK_LIKE_ENCODED_WORDS))
bodies_of_a_bulk = st.tuples(written_texts, st.one_of(st.none(), written_texts))
people = st.builds(Address, st.sampled_from(["a@mail.example", "pät@exämple.example"]), lines)


def by_the_standard_library(text: str, html: str | None, key: UUID) -> bytes:
    """The content, with nothing remembered and nothing patched."""
    message = EmailMessage(mime._POLICY)
    message.set_content(text, cte=mime._encoding(text))
    if html is not None:
        message.add_alternative(html, subtype="html", cte=mime._encoding(html))
        message.set_boundary(f"=_{key.hex}")
    return message.as_bytes()


@given(bodies_of_a_bulk, st.lists(st.tuples(people, lines, st.uuids(), st.datetimes()), min_size=2, max_size=5))
@example(
    (f"--{mime._BOUNDARY}\n{mime._BOUNDARY}--\n.\n", f"\n.\r\n--{mime._BOUNDARY}--"),
    [(Address("a@mail.example"), "x", MESSAGE_ID, datetime(2026, 1, 1))],
)
def test_a_bulk_rendered_once_is_byte_for_byte_what_the_standard_library_renders_for_each(
    content: tuple[str, str | None], patients: list[tuple[Address, str, UUID, datetime]]
) -> None:
    for person, subject, key, date in patients:
        rendered = render(
            make(
                id=MessageId(key),
                recipient=person,
                subject=subject or "x",
                text=content[0],
                html=content[1],
                date=date.replace(tzinfo=UTC),
            )
        )
        alone = by_the_standard_library(*content, key)
        assert rendered.endswith(alone)
        head = rendered[: -len(alone)].decode()
        assert [line.partition(":")[0] for line in head.splitlines() if line[:1] != " "] == HEADERS[:7]


@given(bodies_of_a_bulk, bodies_of_a_bulk)
@example(("a", None), ("a", ""))
@example(("ab", "c"), ("a", "bc"))
def test_two_texts_are_never_taken_for_one_another(one: tuple[str, str | None], other: tuple[str, str | None]) -> None:
    assert (mime._key(*one) == mime._key(*other)) == (one == other)


def test_what_is_remembered_stays_within_its_limit() -> None:
    contents = mime._Contents(10_000)
    for number in range(50):
        contents.of(f"{number} " + "x" * 1000, None)
        assert sum(map(len, contents._by_key.values())) == contents._held <= 10_000
    assert contents.has("49 " + "x" * 1000, None)
    assert not contents.has("1 " + "x" * 1000, None)
    assert len(contents.of("x" * 20_000, None)) > 20_000  # too long to be remembered, and rendered all the same
    assert not contents.has("x" * 20_000, None)


def _with_lf(body: str) -> str:
    return body.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
