"""The compiler on a small schema that has what Carepost's has not; what is right, graphql-core says."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Annotated, Any

import orjson
import pytest
import strawberry
from hypothesis import example, given
from hypothesis import strategies as st
from strawberry.extensions import FieldExtension, SchemaExtension
from strawberry.permission import BasePermission
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import Schema as StockSchema

from api.graphql.compiled import Ahead, CompilingSchema, batched, planned
from api.graphql.compiled.leaves import Leaf


@strawberry.enum
class Colour(Enum):
    RED = "r"
    BLUE = strawberry.enum_value("b", name="AZURE")


class Upper(str):
    """Upper case outside, lower case inside."""

    __slots__ = ()


UPPER = strawberry.scalar(name="Upper", serialize=lambda value: value.upper(), parse_value=lambda value: value.lower())


X = Upper("x")


class Allowed(BasePermission):
    message = "not allowed"

    def has_permission(self, source: Any, info: strawberry.Info, **_: Any) -> bool:
        return bool(info.context["allowed"])


class AllowedLater(BasePermission):
    message = "not allowed later"

    async def has_permission(self, source: Any, info: strawberry.Info, **_: Any) -> bool:
        await asyncio.sleep(0)
        return bool(info.context["allowed"])


class Doubled(FieldExtension):
    def resolve(self, next_: Any, source: Any, info: strawberry.Info, **arguments: Any) -> Any:
        return next_(source, info, **arguments) * 2


@strawberry.interface
class Named:
    name: str


@strawberry.input
class Wish:
    words: list[str]
    times: int = 2
    colour: Colour | None = None


@strawberry.type
class Cat(Named):
    lives: int | None = 9
    colour: Colour = Colour.BLUE

    @strawberry.field
    def kittens(self, first: int = 2) -> "list[Cat]":
        return [Cat(name=f"{self.name}.{number}", lives=number) for number in range(first)]

    @strawberry.field
    def fails(self) -> int:
        raise ValueError(f"{self.name} fails")

    @strawberry.field
    async def fails_later(self) -> int | None:
        await asyncio.sleep(0)
        raise ValueError(f"{self.name} fails later")

    @strawberry.field
    def fails_when_odd(self) -> int:
        if self.name.endswith("1"):
            raise ValueError(f"{self.name} is odd")
        return 0

    @strawberry.field
    def none(self) -> int:
        return None  # type: ignore[return-value]

    @strawberry.field
    def where(self, info: strawberry.Info) -> str:
        return "/".join(map(str, info.path.as_list()))

    @strawberry.field
    def selected(self, info: strawberry.Info) -> str:
        return f"{info.field_name} {info.python_name} {sorted(info.variable_values)} {info.root_value}"


@strawberry.type
class Dog(Named):
    barks: bool = True


Pet = Annotated[Cat | Dog, strawberry.union("Pet")]


@strawberry.type
class Query:
    @strawberry.field
    def cat(self, name: str = "Tom") -> Cat | None:
        return Cat(name=name)

    @strawberry.field
    async def cats(self) -> list[Cat]:
        return [Cat(name=f"c{number}") for number in range(3)]

    @strawberry.field
    def nullable_cats(self) -> list[Cat | None] | None:
        return [Cat(name="c0"), None, Cat(name="c1")]

    @strawberry.field
    async def pets(self) -> list[Pet]:
        return [Cat(name="c"), Dog(name="d"), Cat(name="e")]

    @strawberry.field
    def named(self) -> list[Named]:
        return [Dog(name="d"), Cat(name="c")]

    @strawberry.field
    def stranger(self) -> list[Pet]:
        return [Cat(name="c"), object()]  # type: ignore[list-item]

    @strawberry.field
    def matrix(self) -> list[list[int | None] | None]:
        return [[1, None, 3], None, []]

    @strawberry.field
    def strict_matrix(self) -> list[list[int]] | None:
        return [[1], [2, None]]  # type: ignore[list-item]

    @strawberry.field
    def too_big(self) -> list[int | None]:
        return [1, 1 << 40, 3]

    @strawberry.field
    def odd_values(self) -> list[str | None]:
        return ["a", 1, True, 1.5, ValueError("as a value"), object]  # type: ignore[list-item]

    @strawberry.field
    def no_list(self) -> list[int] | None:
        return 5  # type: ignore[return-value]

    @strawberry.field
    def breaks_off(self) -> list[int] | None:
        def some() -> Iterator[int]:
            yield 1
            raise ValueError("breaks off")

        return some()  # type: ignore[return-value]

    @strawberry.field
    def told_later(self) -> str:
        async def later() -> str:
            await asyncio.sleep(0)
            return "later"

        return later()  # type: ignore[return-value]

    @strawberry.field
    def some_later(self) -> list[Cat | None]:
        async def later(number: int) -> Cat | None:
            await asyncio.sleep(0)
            if number == 1:
                raise ValueError("one of them")
            return Cat(name=f"c{number}") if number else None

        return [later(number) for number in range(3)]  # type: ignore[misc]

    @strawberry.field
    async def streamed(self) -> list[int]:
        async def some() -> AsyncIterator[int]:
            yield 1
            yield 2

        return some()  # type: ignore[return-value]

    @strawberry.field
    def colours(self, of: list[Colour] | None = None) -> list[Colour]:
        return of if of is not None else [Colour.RED, Colour.BLUE]

    @strawberry.field
    def upper(self, text: Upper = X) -> Upper:
        return text

    @strawberry.field
    def wish(self, wish: Wish, more: list[Wish | None] | None = None) -> str:
        return f"{wish} {more}"

    @strawberry.field
    def old(self, since: Annotated[int, strawberry.argument(deprecation_reason="no longer")] = 1) -> int:
        return since

    @strawberry.field
    def needs(self, number: int) -> int:
        return number

    @strawberry.field
    def of_root(self, root: Any) -> str:
        return str(root)

    @strawberry.field(permission_classes=[Allowed])
    def guarded(self) -> str | None:
        return "seen"

    @strawberry.field(permission_classes=[AllowedLater])
    async def guarded_later(self) -> str | None:
        return "seen"

    @strawberry.field(extensions=[Doubled()])
    def doubled(self, text: str = "a") -> str:
        return text


@strawberry.type
class Mutation:
    @strawberry.mutation
    def change(self) -> int:
        return 1


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def ticks(self) -> AsyncGenerator[int, None]:
        yield 1


class Quiet:
    """Errors are told, not logged."""

    def process_errors(self, *_: Any) -> None:
        return


class Compiling(Quiet, CompilingSchema):
    pass


class Stock(Quiet, StockSchema):
    pass


PARTS: dict[str, Any] = {
    "query": Query,
    "mutation": Mutation,
    "subscription": Subscription,
    "types": [Cat, Dog],
    "config": StrawberryConfig(scalar_map={Upper: UPPER}),
}
COMPILED = Compiling(**PARTS)
STOCK = Stock(**PARTS)

QUERIES = [
    "{ cat { name lives colour kittens { name kittens(first: 1) { name __typename } } } }",
    '{ a: cat(name: "a") { n: name } b: cat { name } __typename }',
    "{ cat { ...A name } cat { lives ...A } } fragment A on Cat { kittens { name } kittens { lives } }",
    "{ pets { __typename ... on Named { name } ... on Cat { lives } ...D } } fragment D on Dog { barks }",
    "{ named { name __typename ... on Dog { barks } } }",
    "{ stranger { ... on Cat { name } } }",
    "{ matrix strictMatrix tooBig }",
    "{ oddValues }",
    "{ noList breaksOff }",
    "{ toldLater someLater { name } streamed }",
    "{ nullableCats { name none } }",
    "{ nullableCats { name fails } }",
    "{ cats { name failsWhenOdd } cat { name } }",
    "{ nullableCats { kittens { failsWhenOdd } } }",
    "{ cat { failsLater fails } }",
    "{ cat { failsLater name } nullableCats { failsLater name } }",
    "{ cat { kittens(first: 3) { failsLater failsWhenOdd } } }",
    "{ cat { kittens(first: 3) { kittens { where } } } pets { ... on Cat { where selected } } }",
    "{ colours upper old doubled guarded guardedLater ofRoot }",
    '{ colours(of: [AZURE]) upper(text: "aB") old(since: 3) doubled(text: "ab") }',
    '{ wish(wish: {words: "one"}) w: wish(wish: {words: ["a"], times: 3, colour: RED}, more: [null, {words: []}]) }',
    'query ($w: Wish!, $more: [Wish] = [{words: ["d"]}]) { wish(wish: $w, more: $more) }',
    "query ($word: String!, $n: Int) { wish(wish: {words: [$word], times: $n}) cat { kittens(first: $n) { name } } }",
    "query ($n: Int) { needs(number: 1) cat { kittens(first: $n) { name } } }",
    "query ($n: Int!) { needs(number: $n) }",
    "query ($n: Int = 4) { needs(number: $n) cat { kittens(first: $n) { name } } }",
    "query ($c: [Colour!], $u: Upper) { colours(of: $c) upper(text: $u) }",
    "query ($v: Boolean!) { cat { name @include(if: $v) lives @skip(if: $v) ... @include(if: $v) { colour } } }",
    "query ($v: Boolean = true) { cat @skip(if: $v) { name } }",
    "query ($v: Boolean!) { cat { ...A @skip(if: $v) } } fragment A on Cat { name ...B } fragment B on Named { name }",
]
VARIABLES: list[dict[str, Any]] = [
    {},
    {"w": {"words": "x"}, "word": "y", "n": 1, "v": True, "c": ["RED", "AZURE"], "u": "ab"},
    {"w": {"words": ["x"], "times": 1, "colour": "AZURE"}, "more": None, "n": None, "v": False, "c": None, "word": "z"},
    {"w": {"words": [1]}, "n": "1", "v": None, "c": "RED", "u": 1, "word": None},
    {"w": {"words": [], "no": 1}, "n": 1 << 31, "v": "true", "c": ["r"], "more": [{"words": []}, None]},
]


async def both(query: str, variables: dict[str, Any], **context: Any) -> tuple[Any, Any]:
    def shown(result: Any) -> tuple[bytes, list[Any]]:
        return orjson.dumps(result.data), [error.formatted for error in result.errors or ()]

    asked: dict[str, Any] = {
        "variable_values": variables,
        "context_value": {"allowed": True, **context},
        "root_value": "the root",
    }
    return shown(await COMPILED.execute(query, **asked)), shown(await STOCK.execute(query, **asked))


@pytest.mark.parametrize("query", QUERIES)
async def test_a_query_is_answered_as_graphql_core_answers_it(query: str) -> None:
    for variables in VARIABLES:
        for allowed in (True, False):
            compiled, stock = await both(query, variables, allowed=allowed)
            assert compiled == stock, variables
    assert COMPILED.compiled(query, None) is not None


@pytest.mark.parametrize(
    "document",
    [
        "mutation { change }",
        "{ __schema { queryType { name } } }",
        '{ cat { name } t: __type(name: "Cat") { name } }',
    ],
)
async def test_what_is_not_compiled_is_answered_all_the_same(document: str) -> None:
    compiled, stock = await both(document, {})
    assert compiled == stock
    assert compiled[1] == []
    assert COMPILED.compiled(document, None) is None


async def test_of_several_operations_the_named_one_runs() -> None:
    document = "query A { cat { name } } query B { cat { lives } }"
    for name in ("A", "B", "C"):
        answers = [
            (await schema.execute(document, operation_name=name)) if name != "C" else None
            for schema in (COMPILED, STOCK)
        ]
        assert len({str(answer and answer.data) for answer in answers}) == 1
    assert COMPILED.compiled(document, "A") is not None
    assert COMPILED.compiled(document, None) is None


async def test_a_document_that_was_refused_is_not_there() -> None:
    assert (await COMPILED.execute("{ cat { tail } }")).errors
    assert COMPILED.compiled("{ cat { tail } }", None) is None


async def test_schemas_whose_extensions_resolve_fields_are_left_alone() -> None:
    class Loud(SchemaExtension):
        def resolve(self, next_: Any, root: Any, info: Any, *arguments: Any, **keywords: Any) -> Any:
            found = next_(root, info, *arguments, **keywords)
            return found.upper() if isinstance(found, str) else found

    schema = Compiling(**PARTS, extensions=[Loud])
    assert (await schema.execute("{ doubled }")).data == {"doubled": "AA"}
    assert schema.compiled("{ doubled }", None) is None


async def test_synchronous_execution_is_left_alone() -> None:
    assert COMPILED.execute_sync("{ old }").data == {"old": 1}


async def test_no_more_than_some_documents_are_remembered() -> None:
    schema = Compiling(**PARTS)
    texts = [f"{{ a{number}: old }} {'#' * 5000}" for number in range(60)]
    for text in texts:
        await schema.execute(text)
        assert schema.compiled(texts[0], None) is not None  # asked for again and again
    kept = [schema.compiled(text, None) is not None for text in texts]
    assert kept == [True] + [False] * (60 - sum(kept)) + [True] * (sum(kept) - 1)
    assert 2 < sum(kept) <= 40
    await schema.execute(f"{{ old }} {'#' * 10_000}")
    assert schema.compiled(f"{{ old }} {'#' * 10_000}", None) is None


async def test_a_run_that_is_native_gives_what_orjson_writes_the_same_way() -> None:
    for query in QUERIES[:20]:
        await COMPILED.execute(query, context_value={"allowed": True})
        operation = COMPILED.compiled(query, None)
        assert operation is not None
        answers = []
        for native in (True, False):
            run = operation.start({}, {"allowed": True}, native=native)
            assert run is not None
            answers.append(orjson.dumps((await operation.finish(run)).data))
        assert answers[0] == answers[1]


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(timedelta(seconds=1))])))
@example(datetime(1, 1, 1, tzinfo=UTC))
@example(datetime(999, 1, 1, 0, 0, 0, 1, tzinfo=UTC))
def test_orjson_writes_a_moment_as_its_scalar_does(moment: datetime) -> None:
    from strawberry.schema.types.base_scalars import DateTimeDefinition
    from strawberry.schema.types.scalar import _make_scalar_type

    leaf = Leaf(_make_scalar_type(DateTimeDefinition), nullable=True)
    native, plain = (leaf.column([moment, None], native=native) for native in (True, False))
    assert plain == [moment.isoformat(), None]
    assert orjson.dumps(native) == orjson.dumps(plain)


class Calls:
    """What was called, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []


CALLS = Calls()


async def batch(parents: list[Any], info: strawberry.Info, more: int = 0) -> list[Any]:
    CALLS.told.append(("batch", len(parents), more))
    if more > 5:
        raise ValueError("all of them")
    return [ValueError("one of them") if parent.number == more else parent.number + more for parent in parents]


def plan(field: Ahead) -> Any:
    CALLS.told.append(("plan", [each.name for each in field.below]))
    if any(each.name == "batched" for each in field.below):
        return None
    for each in field.below:
        if each.name == "number":
            each.read(lambda row: row["n"])
        elif each.name == "word":
            each.read_all(lambda rows, info: [f"{row['n']} of {len(rows)}" for row in rows])
    field.stand_in(lambda rows, info: [Item(number=row["n"] + 100) for row in rows])

    async def resolve(source: Any, info: strawberry.Info, count: int = 2) -> Any:
        return [{"n": number} for number in range(count)]

    return resolve


@strawberry.type
class Item:
    number: int

    @strawberry.field
    def word(self) -> str:
        return f"{self.number} alone"

    @strawberry.field
    def own(self) -> int:
        return self.number

    @strawberry.field(metadata=batched(batch))
    async def batched(self, more: int = 0) -> int | None:
        CALLS.told.append(("alone", more))
        return self.number + more


@strawberry.type
class Hooked:
    @strawberry.field(metadata=planned(plan))
    async def items(self, count: int = 2) -> list[Item]:
        return [Item(number=number) for number in range(count)]


async def ask(query: str, *, compiling: bool = True) -> tuple[Any, list[Any], list[Any]]:
    CALLS.told.clear()
    result = await Compiling(query=Hooked, compiling=compiling).execute(query)
    return result.data, [(error.path, error.message) for error in result.errors or ()], list(CALLS.told)


async def test_a_batched_form_is_called_once_for_a_list() -> None:
    data, errors, told = await ask("{ items(count: 3) { batched(more: 4) } }")
    assert data == {"items": [{"batched": 4}, {"batched": 5}, {"batched": 6}]}
    assert (errors, told) == ([], [("plan", ["batched"]), ("batch", 3, 4)])


async def test_an_exception_in_a_batch_is_the_error_of_its_parent_alone() -> None:
    data, errors, _ = await ask("{ items(count: 3) { batched(more: 1) } }")
    assert data == {"items": [{"batched": 1}, {"batched": None}, {"batched": 3}]}
    assert errors == [(["items", 1, "batched"], "one of them")]


async def test_a_batch_that_raises_is_an_error_of_each_parent() -> None:
    data, errors, _ = await ask("{ items { batched(more: 6) } }")
    assert data == {"items": [{"batched": None}, {"batched": None}]}
    assert errors == [(["items", number, "batched"], "all of them") for number in range(2)]


async def test_a_plan_says_how_what_is_selected_is_read() -> None:
    data, errors, told = await ask("{ items(count: 2) { number word own __typename } }")
    rows = [{"number": n, "word": f"{n} of 2", "own": n + 100, "__typename": "Item"} for n in range(2)]
    assert (data, errors) == ({"items": rows}, [])
    assert told == [("plan", ["number", "word", "own", "__typename"])]


async def test_graphql_core_never_sees_the_hooks() -> None:
    data, errors, told = await ask("{ items { number word batched } }", compiling=False)
    assert data == {"items": [{"number": n, "word": f"{n} alone", "batched": n} for n in range(2)]}
    assert (errors, told) == ([], [("alone", 0), ("alone", 0)])
