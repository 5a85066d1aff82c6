"""Rules of the house that no linter knows."""

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("mail", "db", "workers", "api", "carepost")
SECRET = re.compile(r"(secret|token|signature|password|passwd|digest|hmac|mac|api_?key)s?$", re.IGNORECASE)
# Not secrets, or no comparison of their content; each with its reason.
KNOWN: dict[str, str] = {
    "fresh == secrets": "both are ours: what was remembered and what is stored",
    "key != secret": "an administrator's new secret and those of the same account",
}


def named(node: ast.expr) -> str:
    """The last name of an expression: `account.secret`, `secrets[0]`, `self._token`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value, slice=ast.Constant(value=str(key))):
            return key or named(value)
        case ast.Subscript(value=value) | ast.Await(value=value):
            return named(value)
        case ast.Call(func=ast.Attribute(value=value, attr="encode" | "decode" | "strip" | "lower" | "hexdigest")):
            return named(value)
        case _:
            return ""


def compared(source: str) -> Iterator[tuple[int, str]]:
    """Lines that compare a secret in a time that tells of its content. None and other constants are no secrets."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        for place, operator in enumerate(node.ops):
            pair = sides[place : place + 2]
            if any(isinstance(side, ast.Constant) for side in pair):
                continue
            if isinstance(operator, ast.Eq | ast.NotEq) and any(SECRET.search(named(side)) for side in pair):
                yield node.lineno, ast.unparse(node)
            # `key in headers` looks for a name; `given in secrets` compares with each.
            if (
                isinstance(operator, ast.In | ast.NotIn)
                and SECRET.search(named(pair[1]))
                and SECRET.search(named(pair[0]))
            ):
                yield node.lineno, ast.unparse(node)


def test_secrets_are_compared_in_constant_time() -> None:
    found = {}
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            if "sandbox" in path.parts:
                continue  # it stands in for a vendor, and keeps no secret of anybody's
            for line, text in compared(path.read_text()):
                if text not in KNOWN:
                    found[f"{path.relative_to(ROOT)}:{line}"] = text
    assert found == {}, "use hmac.compare_digest"


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("secret == given", True),
        ("given != self._webhook_secret", True),
        ("headers['signature'] == expected", True),
        ("token.encode() == given", True),
        ("secret in secrets", True),
        ("mac.hexdigest() == given", True),
        ("secret is None", False),
        ("token == ''", False),
        ("'secret' in fields", False),
        ("hmac.compare_digest(secret, given)", False),
        ("len(secret) == 3", False),
    ],
)
def test_the_rule_sees_what_it_should(source: str, is_found: bool) -> None:
    assert bool(list(compared(source))) == is_found


def test_what_others_wrote_is_as_they_released_it() -> None:
    vendor = ROOT / "api" / "graphiql" / "vendor"
    sums = dict(
        re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", (vendor / "README.md").read_text(), re.MULTILINE)
    )
    files = {path.name for path in vendor.iterdir() if path.suffix in {".js", ".css"}}
    assert sums == {name: hashlib.sha256((vendor / name).read_bytes()).hexdigest() for name in files}
    assert {path.name for path in vendor.glob("*.LICENSE")} == {"graphiql.LICENSE", "react.LICENSE"}
