"""Domain enums as GraphQL enums: a member's description is the docstring below it, so that it is written once."""

import ast
import inspect
import textwrap
from enum import Enum
from typing import TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

E = TypeVar("E", bound=type[Enum])


def described(enum: E) -> E:
    """Makes `enum` a GraphQL enum with the descriptions of its source."""
    converted = strawberry.enum(enum, description=_sentence(enum.__doc__ or ""))
    definition: StrawberryEnumDefinition = converted.__strawberry_definition__  # type: ignore[attr-defined]
    members = _member_docstrings(enum)
    for value in definition.values:
        value.description = members[value.name]
    return converted


def _member_docstrings(enum: type[Enum]) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(enum))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.Assign)
            and isinstance(target := statement.targets[0], ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(text := following.value, ast.Constant)
        ):
            found[target.id] = _sentence(str(text.value))
    return found


def _sentence(text: str) -> str:
    return " ".join(text.split())
