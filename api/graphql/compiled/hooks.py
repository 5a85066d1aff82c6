"""What a resolver may offer beside itself, as `metadata` of its field; graphql-core never sees it.

`batched`: a form that is called once with all parents of a list, instead of once for each. It has the arguments of the
resolver, and gives a value for each parent, in their order, or an exception in place of one.

    @strawberry.field(metadata=batched(accounts_of_messages))
    async def account(self, info: Info) -> SendingAccount: ...

`planned`: a form that sees, once for an operation, what is selected below the field. It says which of it is read in
which way, and gives the resolver that makes what is read; or None, and the field is resolved as ever.

    def plan(field: Ahead) -> Resolver | None: ...

    @strawberry.field(metadata=planned(plan))
    async def patient(self, info: Info, id: strawberry.ID) -> Patient | None: ...
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Final, Protocol

from strawberry.types.info import Info

BATCHED: Final = "compiled.batched"
SHARED: Final = "compiled.shared"
PLANNED: Final = "compiled.planned"

ReadEach = Callable[[Any], Any]
"""From a parent to its value: best a function of C, such as `operator.itemgetter`."""
ReadAll = Callable[[list[Any], Info[Any, Any]], Sequence[Any]]
"""From all parents of a list to their values, each an exception where it failed. The info is of the run: its context
and variables count, its field and path don't."""
Keyed = Callable[[list[Any], Info[Any, Any]], tuple[Sequence[Hashable], Callable[[int], Any]]]
"""From all parents of a list to a key for each, and to what makes the object at a place of the list."""
Resolver = Callable[..., Awaitable[Any]]
"""Called with source, info and the arguments of the field by name."""


Batch = Callable[..., Awaitable[Sequence[Any]]]
"""The batched form of a resolver: called with parents, info and the arguments of the field by name."""


class Ahead(Protocol):
    """A field of an operation, and what is selected below it."""

    @property
    def name(self) -> str:
        """As the schema has it."""

    @property
    def below(self) -> "Sequence[Ahead]":
        """What is selected on its object, or on the objects of its list; empty for leaves, interfaces and unions."""

    def arguments(self, info: Info[Any, Any]) -> dict[str, Any]:
        """What its resolver is called with in this run; raises what the conversion raises."""

    def read(self, each: ReadEach, *, exact: bool = False) -> None:
        """Reads it in this way, instead of calling its resolver. `exact` values need no look at each: they are as they
        are written (names of enums), None only where null may stand, and moments are in UTC."""

    def read_all(self, many: ReadAll, *, exact: bool = False) -> None:
        """Reads it for all parents at once."""

    def read_keyed(self, keyed: Keyed) -> None:
        """Reads objects that follow from their keys alone, now and in other runs: each is made and written once."""

    def stand_in(self, make: ReadAll) -> None:
        """Objects in place of what is read here, for the resolvers of those fields below that nobody reads."""


Plan = Callable[[Ahead], Resolver | None]


def batched(batch: Batch, *, shared: bool = False) -> Mapping[str, Any]:
    """Metadata of a field whose resolver has a batched form. `shared` objects, those that are one and the same for
    several parents, are written once."""
    return {BATCHED: batch, SHARED: shared}


def planned(plan: Plan) -> Mapping[str, Any]:
    """Metadata of a field whose resolver has a planned form."""
    return {PLANNED: plan}
