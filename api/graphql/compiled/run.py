"""One run of an operation, with the errors it met."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from graphql import FieldNode, GraphQLError, located_error
from graphql.execution.values import VariableValues

from api.graphql.compiled.places import Place, Trail

if TYPE_CHECKING:
    from api.graphql.compiled.objects import ObjectPlan


class _Nulled:
    """Stands where an error leaves no value, and null may not stand either: whatever holds it is nulled in turn."""

    def __repr__(self) -> str:
        return "NULLED"


NULLED: Final = _Nulled()


class Run:
    """`native` is for orjson: datetimes stay what they are, and what is written already may be fragments."""

    __slots__ = ("context", "extensions", "failures", "native", "plan", "reading", "root", "variables")

    def __init__(
        self,
        plan: "ObjectPlan",
        variables: VariableValues,
        context: Any = None,
        root: Any = None,
        extensions: dict[str, Any] | None = None,
        *,
        native: bool = False,
    ) -> None:
        self.plan = plan
        self.variables = variables
        self.context = context
        self.root = root
        self.extensions = extensions
        self.native = native
        self.reading: Any = None
        """What the readers of plans are told: one Info for all of a run."""
        self.failures: list[tuple[Trail, GraphQLError]] = []

    def fail(
        self, place: Place, number: int, error: Exception, nodes: Sequence[FieldNode], *, raised: bool = False
    ) -> _Nulled | None:
        """Notes an error; gives what stands in place of the value."""
        trail = place.trail(number, raised=raised)
        self.failures.append((trail, located_error(error, list(nodes), trail.path)))
        return None if place.nullable else NULLED

    def errors(self) -> list[GraphQLError] | None:
        """The errors of the answer. One below a place that is null already tells nothing new and is left out, as
        graphql-core leaves it out."""
        if not self.failures:
            return None
        nulled: set[tuple[str | int, ...]] = set()
        errors = []
        for trail, error in sorted(self.failures, key=lambda failure: failure[0].order):
            if any(trail.nulled[:depth] in nulled for depth in range(len(trail.nulled) + 1)):
                continue
            nulled.add(trail.nulled)
            errors.append(error)
        return errors
