"""What an application can answer from a head and a body alone, before it is asked as ASGI has it.

ASGI costs a seventh of an answer of 17 KB: a scope, a cycle of messages, two of them for an answer. An application that
has `at_once` says by target what may come without, and a server that knows of it (see carepost.at_once) asks there
first. Whatever isn't taken there comes by ASGI, as if nothing had been asked.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""


class Answer(NamedTuple):
    """`headers` come after those of the server and the body's length."""

    status: int
    headers: Headers
    body: bytes = b""


Answering = Callable[[], Awaitable[Answer]]
"""Called once and awaited once, unless the client is gone by then. It raises nothing."""
AtOnce = Callable[[Headers, bytes], Answering | None]
"""Called with the whole of a POST's body; must not wait. None leaves the request to the application."""
ByTarget = Callable[[bytes], AtOnce | None]
"""By the target of a request, as it stands in its first line; asked for each. None leaves all of it to ASGI."""
