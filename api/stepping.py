"""What could wait and mostly doesn't: stepped once by hand, it costs neither a task nor a timer.

    try:
        waits_for = next(work)
    except StopIteration as done:
        return done.value
    return await go_on(work, waits_for)

`work` is a coroutine, or what `__await__` of anything awaitable gives.
"""

from collections.abc import Generator
from types import coroutine
from typing import Any


@coroutine
def go_on(work: Generator[Any, Any, Any], waits_for: object) -> Generator[Any, Any, Any]:
    """The rest of what was stepped until it waited, to be awaited."""
    try:
        while True:
            try:
                answer = yield waits_for
            except BaseException as error:  # noqa: BLE001 - handed on
                waits_for = work.throw(error)
            else:
                waits_for = work.send(answer)
    except StopIteration as done:
        return done.value
