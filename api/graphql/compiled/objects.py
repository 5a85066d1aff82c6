"""Objects: their fields are resolved one after the other, each for all objects of a list, then written together."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

import orjson
from graphql import GraphQLAbstractType, GraphQLError, GraphQLObjectType
from graphql.execution import default_type_resolver
from graphql.pyutils import inspect
from strawberry.execution import optimized_is_awaitable
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.cast import get_strawberry_type_cast

from api.graphql.compiled.hooks import ReadAll
from api.graphql.compiled.places import Place
from api.graphql.compiled.run import NULLED, Run
from api.graphql.compiled.source import AtOnce, Source
from api.graphql.compiled.values import Values, are_plain, called, settled

if TYPE_CHECKING:
    from api.graphql.compiled.fields import FieldPlan

_MOST_KNOWN: Final = 2_000


class ObjectPlan:
    """What is selected on objects of one type. `at_once` gives what `write` gives, where every field is only read."""

    def __init__(self, type_: GraphQLObjectType, fields: Sequence["FieldPlan"]) -> None:
        self.type = type_
        self.fields = fields
        self.make_stand_ins: ReadAll | None = None
        self.at_once = AtOnce(self.emit)
        keys = [field.key for field in fields]
        # Names of GraphQL are ASCII letters, digits and underscores, so this can hold nothing else.
        parameters = ", ".join(f"v{number}" for number in range(len(keys)))
        members = ", ".join(f"{key!r}: v{number}" for number, key in enumerate(keys))
        self._write: Callable[..., dict[str, Any]] = eval(f"lambda {parameters}: {{{members}}}")  # noqa: S307

    @cached_property
    def pure(self) -> bool:
        """Whether nothing below is called: the same object is then written the same way. Asked once all plans have had
        their say."""
        return all(field.pure for field in self.fields)

    async def write(self, run: Run, place: Place, parents: list[Any]) -> list[Any]:
        """Each parent as a dictionary; `NULLED` where a field of it is."""
        if not parents:
            return []
        if not self.fields:
            return [{} for _ in parents]
        if self.pure and (whole := self.at_once(run, place, parents)) is not None:
            return whole
        columns: list[Any] = []
        waiting: list[tuple[int, Awaitable[list[Any]]]] = []
        for field, sources in self._from(run, place, parents):
            column = field.at_once(run, place, sources) if field.pure else None
            if column is None:
                work = field.column(run, place, sources)
                if field.waits_below:
                    waiting.append((len(columns), work))
                else:
                    column = await work
            columns.append(column)
        if len(waiting) == 1:
            columns[waiting[0][0]] = await waiting[0][1]
        elif waiting:
            found = await asyncio.gather(*(work for _, work in waiting))
            for (number, _), column in zip(waiting, found, strict=True):
                columns[number] = column
        written: list[Any] = list(map(self._write, *columns))
        if run.failures:
            for column in columns:
                for number, value in enumerate(column):
                    if value is NULLED:
                        written[number] = NULLED
        return written

    def emit(self, source: Source, parents: str) -> str:
        members: list[str] = []
        columns: dict[str, str] = {}
        stand_ins = ""
        for number, field in enumerate(self.fields):
            if field.is_typename:
                members.append(f"{field.key!r}: {self.type.name!r}")
                continue
            resolved_on_stand_ins = self._is_resolved_on_stand_ins(field)
            if resolved_on_stand_ins and not stand_ins:
                stand_ins = source.let(f"{source.name(self._stand_ins)}(run, place, {parents}, {source.name(field)})")
            columns[f"c{number}"] = field.emit_column(source, stand_ins if resolved_on_stand_ins else parents)
            members.append(f"{field.key!r}: c{number}")
        if not columns:
            loop = f"_ in {parents}"
        elif len(columns) == 1:
            [(name, column)] = columns.items()
            loop = f"{name} in {column}"
        else:
            loop = f"{', '.join(columns)} in zip({', '.join(columns.values())})"
        return source.let(f"[{{{', '.join(members)}}} for {loop}]")

    def _from(self, run: Run, place: Place, parents: list[Any]) -> Iterator[tuple["FieldPlan", list[Any]]]:
        """The fields, each with what it is resolved on: the parents, or what stands in for them."""
        stand_ins: list[Any] | None = None
        for field in self.fields:
            if self._is_resolved_on_stand_ins(field):
                if stand_ins is None:
                    stand_ins = self._stand_ins(run, place, parents, field)
                yield field, stand_ins
            else:
                yield field, parents

    def _is_resolved_on_stand_ins(self, field: "FieldPlan") -> bool:
        return self.make_stand_ins is not None and not field.is_read

    def _stand_ins(self, run: Run, place: Place, parents: list[Any], field: "FieldPlan") -> list[Any]:
        assert self.make_stand_ins is not None
        return list(self.make_stand_ins(parents, field.info(run, place, 0)))


class ObjectValues(Values):
    """Objects of one type. `vouched` ones are what a plan reads: their type isn't asked. `shared` ones are written
    once for all places of a column where one and the same stands, those that follow from a key once and for all."""

    def __init__(self, field: "FieldPlan", plan: ObjectPlan, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self.plan = plan
        self.vouched = plan.type.is_type_of is None
        self.shared = False
        self._at_once = AtOnce(self.emit)
        self._known: tuple[dict[Hashable, Any], dict[Hashable, Any]] = ({}, {})
        definition = plan.type.extensions.get("strawberry-definition")
        self._origin: type | None = None
        if isinstance(definition, StrawberryObjectDefinition) and definition.is_type_of is None:
            self._origin = definition.origin

    async def all(self, run: Run, place: Place, values: Sequence[Any]) -> list[Any]:
        if not self.vouched and not self._are_of_type(values):
            verdicts = [
                called(self.plan.type.is_type_of, value, self.field.info_at(run, place, number))  # type: ignore[arg-type]
                for number, value in enumerate(values)
            ]
            return await self._judged(run, place, values, verdicts)
        if self.shared and self.pure and (written := self._at_once(run, place, list(values))) is not None:
            return written
        return self.nulled(run, await self.plan.write(run, place, list(values)))

    @property
    def pure(self) -> bool:
        return self.plan.pure

    def emit(self, source: Source, values: str) -> str:
        kinds = source.let(f"set(map(type, {values}))")
        if not self.nullable:
            return self._emit_objects(source, values, kinds)
        nothing = source.name(NoneType)
        objects = source.let(f"[v for v in {values} if v is not None] if {nothing} in {kinds} else {values}")
        source.line(f"{kinds}.discard({nothing})")
        column = source.let(f"[None] * len({values})")
        with source.when(objects):
            written = self._emit_objects(source, objects, kinds)
            next_one = f"next({source.let(f'iter({written})')})"
            mixed = f"[None if v is None else {next_one} for v in {values}]"
            source.line(f"{column} = {written} if {objects} is {values} else {mixed}")
        return column

    def _emit_objects(self, source: Source, values: str, kinds: str) -> str:
        source.give_up_unless(f"{source.name(are_plain)}({kinds})")
        if not self.vouched:
            source.give_up_unless(f"not {values} or {source.name(self._are_of_type)}({values})")
        return self._emit_once(source, values) if self.shared else self.plan.emit(source, values)

    def _emit_once(self, source: Source, values: str) -> str:
        """Each object written once, however often it stands there."""
        once = source.let(f"{{id(v): v for v in {values}}}")
        written = self.plan.emit(source, source.let(f"list({once}.values())"))
        known = source.let(f"dict(zip({once}, {written}))")
        return source.let(f"[{known}[id(v)] for v in {values}]")

    def by_key(self, run: Run, place: Place, keys: Sequence[Hashable], make: Callable[[int], Any]) -> list[Any] | None:
        """What follows from keys; `make` gives the object at a place of them."""
        known = self._known[run.native]
        written = list(map(known.get, keys))
        if all(written):
            return written
        if len(known) > _MOST_KNOWN:
            known.clear()
        for number, key in enumerate(keys):
            if key not in known:
                new = self.plan.at_once(run, place, [make(number)])
                if new is None:
                    return None
                known[key] = orjson.Fragment(orjson.dumps(new[0])) if run.native else new[0]
            written[number] = known[key]
        return written

    def _are_of_type(self, values: Sequence[Any]) -> bool:
        """What Strawberry's own predicate says of instances of the very class."""
        return set(map(type, values)) == {self._origin} and not any(map(get_strawberry_type_cast, values))

    async def _judged(self, run: Run, place: Place, values: Sequence[Any], verdicts: list[Any]) -> list[Any]:
        written: list[Any] = [None] * len(values)
        kept = []
        for number, verdict in enumerate(verdicts):
            if optimized_is_awaitable(verdict):
                [verdict] = await settled([verdict])
            if isinstance(verdict, Exception):
                written[number] = self.fail(run, place, number, verdict)
            elif not verdict:
                text = f"Expected value of type '{self.plan.type}' but got: {inspect(values[number])}."
                written[number] = self.fail(run, place, number, GraphQLError(text, self.field.nodes))
            else:
                kept.append(number)
        whole = await self.plan.write(run, place.some(kept), [values[number] for number in kept])
        for number, value in zip(kept, whole, strict=True):
            written[number] = value
        return self.nulled(run, written)


class AbstractValues(Values):
    """Objects of an interface or a union: told apart by their types first."""

    def __init__(self, field: "FieldPlan", type_: GraphQLAbstractType, *, nullable: bool) -> None:
        super().__init__(field, nullable=nullable)
        self._type = type_
        self._plans: dict[str, ObjectValues] = {}

    async def all(self, run: Run, place: Place, values: Sequence[Any]) -> list[Any]:
        written: list[Any] = [None] * len(values)
        resolve = self._type.resolve_type or default_type_resolver
        groups: dict[str, list[int]] = {}
        for number, value in enumerate(values):
            name: Any = called(resolve, value, self.field.info_at(run, place, number), self._type)
            if optimized_is_awaitable(name):
                [name] = await settled([name])
            try:
                groups.setdefault(self._checked(name, value), []).append(number)
            except Exception as error:  # noqa: BLE001 - an error of this value
                written[number] = self.fail(run, place, number, error)
        for name, numbers in groups.items():
            plan = self._plans.get(name)
            if plan is None:
                type_ = self.field.planner.schema.type_map[name]
                plan = self._plans[name] = self.field.planner.objects(self.field, type_, nullable=self.nullable)
            whole = await plan.all(run, place.some(numbers), [values[number] for number in numbers])
            for number, value in zip(numbers, whole, strict=True):
                written[number] = value
        return written

    def _checked(self, name: Any, value: Any) -> str:
        """The name of a type that may stand here; raises as graphql-core does."""
        if isinstance(name, Exception):
            raise name
        schema, abstract, nodes = self.field.planner.schema, self._type, self.field.nodes
        where = f"for field '{self.field.parent_type}.{self.field.name}'"
        must = f"Abstract type '{abstract}' must resolve to an Object type at runtime {where}"
        if name is None:
            raise GraphQLError(
                f"{must}. Either the '{abstract}' type should provide a 'resolve_type' function or each possible type "
                "should provide an 'is_type_of' function.",
                nodes,
            )
        if not isinstance(name, str):
            raise GraphQLError(
                f"{must} with value {inspect(value)}, received '{inspect(name)}', which is not a valid Object type "
                "name.",
                nodes,
            )
        type_ = schema.get_type(name)
        if type_ is None:
            raise GraphQLError(
                f"Abstract type '{abstract}' was resolved to a type '{name}' that does not exist inside the schema.",
                nodes,
            )
        if not isinstance(type_, GraphQLObjectType):
            raise GraphQLError(f"Abstract type '{abstract}' was resolved to a non-object type '{name}'.", nodes)
        if not schema.is_sub_type(abstract, type_):
            raise GraphQLError(f"Runtime Object type '{type_}' is not a possible type for '{abstract}'.", nodes)
        return name
