"""Completion of columns: nulls, lists, objects, abstract types, leaves, each by the rules of the specification.

https://spec.graphql.org/draft/#sec-Value-Completion
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, islice
from types import GeneratorType, NoneType
from typing import TYPE_CHECKING, Any, Final

from graphql import GraphQLError, Undefined
from graphql.pyutils import is_iterable
from graphql.pyutils.is_awaitable import is_async_iterable
from strawberry.execution import optimized_is_awaitable

from api.graphql.compiled.leaves import Leaf
from api.graphql.compiled.places import Place
from api.graphql.compiled.run import NULLED, Run
from api.graphql.compiled.source import Source

if TYPE_CHECKING:
    from api.graphql.compiled.fields import FieldPlan


class Values(ABC):
    """Values of one type at one place of an operation."""

    def __init__(self, field: "FieldPlan", *, nullable: bool) -> None:
        self.field = field
        self.nullable = nullable

    async def complete(self, run: Run, place: Place, values: Sequence[Any]) -> list[Any]:
        """The values as they are written, in their order. One that can't be is noted as an error and is None, or
        `NULLED` where null may not stand."""
        kinds = set(map(type, values))
        if are_plain(kinds):
            return await self.all(run, place, values)
        if any(map(_is_odd, kinds)):
            return await self._odd(run, place, values)
        if NoneType in kinds:
            return await self._some(run, place, values)
        return await self.all(run, place, values)

    @abstractmethod
    async def all(self, run: Run, place: Place, values: Sequence[Any]) -> list[Any]:
        """The same for values without None and exceptions."""

    @property
    def pure(self) -> bool:
        """Whether they can be written at once."""
        return False

    def emit(self, source: Source, values: str) -> str:
        """The source of the same for values that are read alone; gives the variable of the column."""
        raise NotImplementedError

    def fail(self, run: Run, place: Place, number: int, error: Exception) -> Any:
        return run.fail(place, number, error, self.field.nodes)

    async def _odd(self, run: Run, place: Place, values: Sequence[Any]) -> list[Any]:
        """What is awaited first, raised exceptions, and `Undefined`."""
        found = list(values)
        waiting = [number for number, value in enumerate(found) if optimized_is_awaitable(value)]
        for number, value in zip(waiting, await settled([found[number] for number in waiting]), strict=True):
            found[number] = value
        return await self._some(run, place, [None if value is Undefined else value for value in found])

    async def _some(self, run: Run, place: Place, values: Sequence[Any]) -> list[Any]:
        """Values with None or exceptions among them."""
        written: list[Any] = [None] * len(values)
        kept = []
        for number, value in enumerate(values):
            if isinstance(value, Exception):
                written[number] = run.fail(place, number, value, self.field.nodes, raised=True)
            elif value is not None:
                kept.append(number)
            elif not self.nullable:
                text = f"Cannot return null for non-nullable field {self.field.parent_type}.{self.field.name}."
                written[number] = self.fail(run, place, number, TypeError(text))
        if kept:
            whole = await self.all(run, place.some(kept), [values[number] for number in kept])
            for number, value in zip(kept, whole, strict=True):
                written[number] = value
        return written

    def nulled(self, run: Run, written: list[Any]) -> list[Any]:
        """Values below which nothing could stand, nulled here where null may stand."""
        if run.failures and self.nullable:
            return [None if value is NULLED else value for value in written]
        return written


class LeafValues(Values):
    """Scalars and enums."""

    def __init__(self, field: "FieldPlan", leaf: Leaf, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self.leaf = leaf

    pure = True

    def emit(self, source: Source, values: str) -> str:
        column = source.let(f"{source.name(self.leaf)}.column({values}, native={source.native})")
        source.give_up_unless(f"{column} is not None")
        return column

    async def all(self, run: Run, place: Place, values: Sequence[Any]) -> list[Any]:
        column = list(values)
        if (written := self.leaf.column(column, native=run.native)) is not None:
            return written
        for number, value in enumerate(column):
            try:
                column[number] = self.leaf.value(value)
            except Exception as error:  # noqa: BLE001 - an error of this value
                column[number] = self.fail(run, place, number, error)
        return column


class ListValues(Values):
    """Lists: the items of all of them lie in one column."""

    def __init__(self, field: "FieldPlan", items: Values, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self.items = items

    @property
    def pure(self) -> bool:
        return self.items.pure

    def emit(self, source: Source, values: str) -> str:
        source.give_up_unless(f"set(map(type, {values})) == {{list}}")
        items = source.let(f"{values}[0] if len({values}) == 1 else [item for each in {values} for item in each]")
        written = self.items.emit(source, items)
        return source.let(f"[{written}] if len({values}) == 1 else {source.name(_parted)}({written}, {values})")

    async def all(self, run: Run, place: Place, values: Sequence[Any]) -> list[Any]:
        lists: list[Any] = []
        failed: dict[int, Any] = {}
        for number, value in enumerate(values):
            try:
                lists.append(value if type(value) is list else await self._read(value))
            except Exception as error:  # noqa: BLE001 - an error of this list
                lists.append(())
                failed[number] = self.fail(run, place, number, error)
        if len(lists) == 1:
            lengths = [len(lists[0])]
            written = [await self.items.complete(run, place.items(lengths, nullable=self.items.nullable), lists[0])]
        else:
            lengths = list(map(len, lists))
            flat = list(chain.from_iterable(lists))
            items = await self.items.complete(run, place.items(lengths, nullable=self.items.nullable), flat)
            written = _parted(items, lists)
        if not run.failures:
            return written
        whole: list[Any] = [
            failed.get(number, NULLED if any(item is NULLED for item in items) else items)
            for number, items in enumerate(written)
        ]
        return self.nulled(run, whole)

    async def _read(self, value: Any) -> list[Any]:
        if is_async_iterable(value):
            return [item async for item in value]
        if not is_iterable(value):
            name = f"{self.field.parent_type}.{self.field.name}"
            raise GraphQLError(f"Expected Iterable, but did not find one for field '{name}'.")
        return list(value)


def _parted(items: list[Any], lists: list[list[Any]]) -> list[list[Any]]:
    """The items in lists as long as these."""
    column = iter(items)
    return [list(islice(column, len(each))) for each in lists]


async def settled(awaitables: Sequence[Awaitable[Any]]) -> list[Any]:
    """What each gives, or the exception that it raises."""
    if len(awaitables) == 1:
        try:
            return [await awaitables[0]]
        except Exception as error:  # noqa: BLE001 - an error of this value
            return [error]
    found = await asyncio.gather(*awaitables, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException) and not isinstance(each, Exception):
            raise each
    return found


def called(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """What it returns, or the exception that it raises."""
    try:
        return function(*arguments, **keywords)
    except Exception as error:  # noqa: BLE001 - an error of this value
        return error


# Kinds of values that are neither None, nor exceptions, nor awaited. Programs have a few hundred classes of values.
_PLAIN: Final[set[type]] = set()
_MOST_PLAIN: Final = 4096


def are_plain(kinds: set[type]) -> bool:
    """Whether values of these kinds are known to be neither None, nor exceptions, nor awaited."""
    return kinds <= _PLAIN


def _is_odd(kind: type) -> bool:
    """Whether values of a kind are awaited or raised, or are no values."""
    if (
        issubclass(kind, Exception | GeneratorType)
        or kind is type(Undefined)
        or (kind is not NoneType and hasattr(kind, "__await__"))
    ):
        return True
    if kind is not NoneType and len(_PLAIN) < _MOST_PLAIN:
        _PLAIN.add(kind)
    return False
