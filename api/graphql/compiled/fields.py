"""Fields: how the values of one are got for all of its parents."""

from collections.abc import Callable, Sequence
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from graphql import FieldNode, GraphQLField, GraphQLObjectType
from graphql.execution import default_field_resolver
from strawberry.execution import optimized_is_awaitable
from strawberry.types.field import StrawberryField
from strawberry.types.info import Info

from api.graphql.compiled.arguments import Arguments, Keywords
from api.graphql.compiled.hooks import BATCHED, SHARED, Keyed, ReadAll, ReadEach, Resolver
from api.graphql.compiled.info import ResolveInfo
from api.graphql.compiled.leaves import Leaf
from api.graphql.compiled.objects import ObjectPlan, ObjectValues
from api.graphql.compiled.places import Place
from api.graphql.compiled.run import Run
from api.graphql.compiled.source import AtOnce, Source
from api.graphql.compiled.values import LeafValues, ListValues, Values, called, settled

if TYPE_CHECKING:
    from api.graphql.compiled.planner import Planner


class FieldPlan:
    """One field as it is selected on objects of one type."""

    def __init__(
        self,
        planner: "Planner",
        parent_type: GraphQLObjectType,
        definition: GraphQLField,
        nodes: list[FieldNode],
        order: int,
    ) -> None:
        node = nodes[0]
        self.planner = planner
        self.parent_type = parent_type
        self.type = definition.type
        self.nodes = nodes
        self.name = node.name.value
        self.key = node.alias.value if node.alias else self.name
        self.order = order
        self._definition = definition
        found = definition.extensions.get("strawberry-definition")
        self.field: StrawberryField | None = found if isinstance(found, StrawberryField) else None
        self._arguments = Arguments(definition, node)
        self._keywords = Keywords(self.field, planner.strawberry) if self.field else None
        self._batch: Callable[..., Any] | None = None
        self._planned: Resolver | None = None
        self._read_each: ReadEach | None = None
        self._read_all: ReadAll | None = None
        self._keyed: Keyed | None = None
        self.is_typename = self.name == "__typename"
        self.at_once = AtOnce(self._emit)
        field = self.field
        # A field with extensions (permissions are one) is resolved by what Strawberry has made of them.
        stock = field is not None and type(field).get_result is StrawberryField.get_result and not field.extensions
        stock = stock and not planner.strawberry.schema_converter.exception_handlers
        self._direct = stock and field is not None and field.base_resolver is not None
        if stock and field is not None and field.base_resolver is None:
            default = field.default_resolver
            name = field.python_name
            self._read_each = attrgetter(name) if default is getattr else lambda parent: default(parent, name)
        elif field is not None and self._direct:
            self._batch = field.metadata.get(BATCHED)
        self.is_read = False
        self._exact = False
        # Errors come in the order in which graphql-core would find them, whatever a plan reads at once.
        self.waits = bool(field and field.is_async)
        self._awaits = self.waits
        self.values: Values
        self._leaf: Leaf | None = None
        self.waits_below = self._awaits

    def complete_by(self, values: Values) -> None:
        """Says how what is resolved is written."""
        self.values = values
        self._leaf = values.leaf if isinstance(values, LeafValues) else None
        self.waits_below = self._awaits or any(field.waits_below for field in self.below)
        if self._batch is not None and isinstance(inner := innermost(values), ObjectValues):
            assert self.field is not None
            inner.shared = self.field.metadata[SHARED]

    @property
    def is_direct(self) -> bool:
        """Whether its resolver is called as it is, with nothing around it."""
        return self._direct

    @property
    def object_values(self) -> ObjectValues | None:
        """The objects that it is, or that its lists hold, where they are of one type."""
        inner = innermost(self.values)
        return inner if isinstance(inner, ObjectValues) else None

    @property
    def below(self) -> "Sequence[FieldPlan]":
        objects = self.object_values
        return objects.plan.fields if objects else ()

    @cached_property
    def pure(self) -> bool:
        """Whether neither this nor anything below is called or awaited. Asked once all plans have had their say."""
        is_read = self.is_typename or self._read_each is not None or self._read_all is not None
        return is_read and self.values.pure

    def arguments(self, info: Info[Any, Any]) -> dict[str, Any]:
        raw: Any = info._raw_info  # noqa: SLF001 - Strawberry has no other way from an Info to its run
        assert self._keywords is not None
        return self._keywords.of(self._arguments.values(raw.run.variables), info)

    def read_by(self, each: ReadEach | None, many: ReadAll | None, *, exact: bool) -> None:
        """Reads values from what a plan gives, instead of calling the resolver."""
        self._read_each, self._read_all = each, many
        self._batch = self._planned = None
        self.is_read = True
        self._exact = exact
        self._awaits = False

    def read_keyed_by(self, keyed: Keyed) -> None:
        """The same for objects that follow from keys."""

        def read_all(parents: list[Any], info: Info[Any, Any]) -> list[Any]:
            keys, make = keyed(parents, info)
            return [make(number) for number in range(len(keys))]

        self.read_by(None, read_all, exact=False)
        self._keyed = keyed

    def resolve_by(self, resolver: Resolver) -> None:
        """Calls the planned form of the resolver."""
        self._planned = resolver

    def info_at(self, run: Run, place: Place, number: int) -> Any:
        """What graphql-core's functions are told."""
        return ResolveInfo(run, self, place, number)

    def info(self, run: Run, place: Place, number: int) -> Info[Any, Any]:
        """What Strawberry's resolvers are told."""
        made: Info[Any, Any] = self.planner.strawberry.config.info_class(
            _raw_info=self.info_at(run, place, number),
            _field=self.field,  # type: ignore[arg-type]
        )
        return made

    def _reading(self, run: Run, place: Place) -> Info[Any, Any]:
        run.reading = self.info(run, place, 0)
        return run.reading  # type: ignore[no-any-return]

    def emit_column(self, source: Source, parents: str) -> str:
        """The source of `column`, where this is pure; gives an expression for what holds the values, once."""
        if self._read_all is None:
            read = f"map({source.name(self._read_each)}, {parents})"
        else:
            info = f"run.reading or {source.name(self._reading)}(run, place)"
            if self._keyed is not None and isinstance(self.values, ObjectValues):
                keyed = source.let(f"{source.name(self._keyed)}({parents}, {info})")
                column = source.let(f"{source.name(self.values.by_key)}(run, place, *{keyed})")
                source.give_up_unless(f"{column} is not None")
                return column
            read = f"{source.name(self._read_all)}({parents}, {info})"
        if not self._exact or self._leaf is None:
            return self.values.emit(source, source.let(f"list({read})"))
        if self._leaf.is_written_as_it_is(native=source.native):
            return read
        return source.let(f"{source.name(self._leaf)}.texts({read})")

    def _emit(self, source: Source, parents: str) -> str:
        if self.is_typename:
            return f"[{self.parent_type.name!r}] * len({parents})"
        return f"list({self.emit_column(source, parents)})"

    async def column(self, run: Run, above: Place, parents: list[Any]) -> list[Any]:
        """The field of each parent as it is written."""
        place = Place(above, self.key, self.order, self.values.nullable, self.waits)
        return await self.values.complete(run, place, await self._values(run, place, parents))

    async def _values(self, run: Run, place: Place, parents: list[Any]) -> Sequence[Any]:
        """The value for each parent, or the exception that was raised."""
        each = self._read_each
        if self._read_all is not None:
            return await self._together(parents, self._read_all(parents, run.reading or self._reading(run, place)))
        if each is not None:
            try:
                return list(map(each, parents))
            except Exception:  # noqa: BLE001 - once more, each by itself
                return [called(each, parent) for parent in parents]
        try:
            arguments = self._arguments.values(run.variables)
        except Exception as error:  # noqa: BLE001 - an error of this field
            return [error] * len(parents)
        if not self._direct:
            resolve = self._definition.resolve or default_field_resolver
            results = [
                called(resolve, parent, self.info_at(run, place, number), **arguments)
                for number, parent in enumerate(parents)
            ]
        elif self._batch is not None or self._planned is not None:
            return await self._by_hook(run, place, parents, arguments)
        else:
            results = self._called(run, place, parents, arguments)
        if not self._awaits:
            return results
        waiting = [number for number, result in enumerate(results) if optimized_is_awaitable(result)]
        for number, value in zip(waiting, await settled([results[number] for number in waiting]), strict=True):
            results[number] = value
        return results

    async def _by_hook(self, run: Run, place: Place, parents: list[Any], arguments: dict[str, Any]) -> Sequence[Any]:
        assert self._keywords is not None
        info = self.info(run, place, 0)
        try:
            keywords = self._keywords.of(arguments, info)
        except Exception as error:  # noqa: BLE001 - an error of this field
            return [error] * len(parents)
        if self._planned is None:
            assert self._batch is not None
            [found] = await settled([self._batch(parents, info, **keywords)])
            return await self._together(parents, found)
        return await settled([self._planned(parent, info, **keywords) for parent in parents])

    async def _together(self, parents: list[Any], found: Any) -> Sequence[Any]:
        if isinstance(found, Exception):
            return [found] * len(parents)
        if len(found) != len(parents):
            raise ValueError(f"{self.name}: {len(found)} values for {len(parents)} parents")
        values: Sequence[Any] = found
        return values

    def _called(self, run: Run, place: Place, parents: list[Any], arguments: dict[str, Any]) -> list[Any]:
        """The resolver, called for each parent as Strawberry calls it."""
        assert self.field is not None
        assert self._keywords is not None
        resolver = self.field.base_resolver
        assert resolver is not None
        function: Any = resolver.wrapped_func
        by_name = [each.name for each in (resolver.parent_parameter, resolver.root_parameter) if each]
        told = resolver.info_parameter.name if resolver.info_parameter else None
        keywords: dict[str, Any] | None = None
        results = []
        for number, parent in enumerate(parents):
            info = self.info(run, place, number) if told or not self._keywords.shared else None
            try:
                if keywords is None or not self._keywords.shared:
                    keywords = self._keywords.of(arguments, info)  # type: ignore[arg-type]
                given = {**keywords, **dict.fromkeys(by_name, parent)}
                if told:
                    given[told] = info
                result = function(parent, **given) if resolver.self_parameter else function(**given)
            except Exception as error:  # noqa: BLE001 - an error of this value
                result = error
            results.append(result)
        return results


def innermost(values: Values) -> Values:
    """What stands in a list, or in a list of lists."""
    while isinstance(values, ListValues):
        values = values.items
    return values


__all__ = ["FieldPlan", "ObjectPlan", "innermost"]
