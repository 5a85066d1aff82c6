"""What an application can answer from a head and a body alone, before it is asked as ASGI has it.

ASGI costs a seventh of an answer of 17 KB: a scope, a cycle of messages, two of them for an answer. An application that
has `at_once` says by path what may come without, and a server that knows of it (see carepost.at_once) asks there first.
Whatever isn't taken there comes by ASGI, as if nothing had been asked.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""


class Answer(NamedTuple):
    """`content_type` is the header's value."""

    status: int
    content_type: bytes
    body: bytes


Answering = Callable[[], Awaitable[Answer]]
"""Called once and awaited once, unless the client is gone by then. It raises nothing."""
AtOnce = Callable[[Headers, bytes], Answering | None]
"""Called with the whole of a POST's body; must not wait. None leaves the request to the application."""
ByPath = Mapping[bytes, AtOnce]
"""By the target of a request, as it stands in its first line."""
