"""Forms, as webhooks carry them."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.providers import forms

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"'), min_size=1, max_size=8)


def multipart(pairs: list[tuple[str, str]], boundary: str = "X-42") -> bytes:
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in pairs]
    return "".join([*parts, f"--{boundary}--\r\n"]).encode()


@given(pairs=st.lists(st.tuples(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=20)), max_size=6))
def test_a_form_is_read_in_order_in_either_encoding(pairs: list[tuple[str, str]]) -> None:
    assert forms.fields(urlencode(pairs).encode()) == pairs
    if pairs and not any("\r\n--X-42" in f"\r\n{value}" for _, value in pairs):
        assert forms.fields(multipart(pairs)) == pairs


@given(pairs=st.lists(st.tuples(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=20)), max_size=6))
def test_what_is_posted_is_read_back(pairs: list[tuple[str, str]]) -> None:
    request = forms.post("https://api.example.com/send", {"x-key": "k"}, pairs)
    assert request.body.isascii()
    assert forms.fields(request.body) == pairs
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/x-www-form-urlencoded",
        "x-key": "k",
    }


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", []),
        (b"&&", []),
        (b"a", [("a", "")]),
        (b"a=", [("a", "")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"a=+%2B%20%zz", [("a", " + %zz")]),
        (b"a=%ff", [("a", "\ufffd")]),
        (b"a=1&a=2", [("a", "1"), ("a", "2")]),
        (b"--", [("--", "")]),
        (b"--b=c", [("--b", "c")]),
        (b"--b\r\n", []),
        (b"--b\r\n\r\nno name\r\n--b--", []),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\ncut off', [("a", "cut off")]),
        (b'--b\r\ncontent-disposition: form-data; NAME="a"\r\nX: y\r\n\r\n\r\n--b--', [("a", "")]),
        (b'--b\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx\r\n--b--', []),
        (b'--b\r\nContent-Disposition: form-data; name="a"; filename="m.eml"\r\n\r\nx\r\n--b--', []),
        (b"--" + b"b" * 71 + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\nx', []),
    ],
)
def test_whatever_comes_has_the_fields_it_has(body: bytes, fields: list[tuple[str, str]]) -> None:
    assert forms.fields(body) == fields


def test_the_bytes_of_a_field_are_kept_for_signatures() -> None:
    assert forms.encoded(b"a%ff=b%fe+c&d") == [(b"a\xff", b"b\xfe c"), (b"d", b"")]
