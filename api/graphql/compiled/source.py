"""Python source for what is only read: columns whose values nobody has to call, await or look at one by one.

Such a part of an operation becomes one function, which goes from parents to what is written without asking again at
each level what it has to do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from api.graphql.compiled.places import Place
    from api.graphql.compiled.run import Run

GIVEN: Final = "given"
"""The variable that holds what the function is given: a list."""


class Source:
    """A function under construction, of `run`, `place` and `GIVEN`. `native` is as in `Run`."""

    def __init__(self, *, native: bool) -> None:
        self.native = native
        self._lines: list[str] = []
        self._known: dict[str, Any] = {}
        self._variables = 0
        self._indent = "    "

    def line(self, text: str) -> None:
        self._lines.append(f"{self._indent}{text}")

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Lines that count where it holds."""
        self.line(f"if {condition}:")
        before, self._indent = self._indent, f"{self._indent}    "
        yield
        self._indent = before

    def let(self, expression: str) -> str:
        """A new variable with this value."""
        self._variables += 1
        self.line(f"v{self._variables} = {expression}")
        return f"v{self._variables}"

    def name(self, value: object) -> str:
        """The name of an object that the function uses."""
        name = f"k{len(self._known)}"
        self._known[name] = value
        return name

    def give_up_unless(self, condition: str) -> None:
        """Leaves the column to those who look at each value."""
        self.line(f"if not ({condition}): return None")

    def function(self, result: str) -> "_Written":
        # Nothing of a document is in it but names of GraphQL, which are ASCII letters, digits and underscores.
        text = "\n".join([f"def written(run, place, {GIVEN}):", *self._lines, f"    return {result}"])
        exec(text, self._known)  # noqa: S102
        made: _Written = self._known["written"]
        return made


_Written = Callable[["Run", "Place", list[Any]], list[Any] | None]


class AtOnce:
    """What is written of given values where nothing has to be called, awaited or noted as an error; None where
    something may have to be, and then nothing was done. `emit` writes the source and says where the result is; the
    place of a call is where the values stand, or lies above it."""

    __slots__ = ("_emit", "_functions")

    def __init__(self, emit: Callable[[Source, str], str]) -> None:
        self._emit = emit
        self._functions: list[_Written | None] = [None, None]

    def __call__(self, run: "Run", place: "Place", given: list[Any]) -> list[Any] | None:
        try:
            written = self._functions[run.native] or self._made(native=run.native)
            return written(run, place, given)
        except Exception:  # noqa: BLE001 - it comes again where each is looked at
            return None

    def _made(self, *, native: bool) -> _Written:
        source = Source(native=native)
        made = self._functions[native] = source.function(self._emit(source, GIVEN))
        return made
