"""A page of a list, as the rows of one statement."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import asyncpg

from api.graphql.compiled import Ahead
from api.graphql.ids import live_cursor
from db.position import Position

Row = asyncpg.Record


def itself(value: Any) -> Any:
    return value


class RowPage:
    """A page from `first` + 1 rows, the last of which only shows that more follow. Its attributes are the fields of a
    connection and of its `PageInfo`."""

    __slots__ = ("_after", "_cursor", "_more", "position", "rows")

    def __init__(
        self,
        rows: Sequence[Row],
        first: int,
        after: str | None,
        cursor: Callable[[Row], str],
        position: Position | None = None,
    ) -> None:
        self.rows = list(rows[:first])
        self.position = position
        self._more = len(rows) > first
        self._after = after
        self._cursor = cursor

    @property
    def page_info(self) -> "RowPage":
        """Its fields are attributes of the page, so that a cursor is made when it is asked for."""
        return self

    @property
    def has_next_page(self) -> bool:
        return self._more

    @property
    def has_previous_page(self) -> bool:
        return self._after is not None

    @property
    def start_cursor(self) -> str | None:
        return self._cursor(self.rows[0]) if self.rows else None

    @property
    def end_cursor(self) -> str | None:
        return self._cursor(self.rows[-1]) if self.rows else None

    @property
    def live_cursor(self) -> str:
        assert self.position is not None  # as in every list that has this field
        return live_cursor(self.position)


_ROWS: Final = attrgetter("rows")


def nodes(field: Ahead) -> Iterator[Ahead]:
    """The nodes of a connection, each time that they are selected."""
    for part in field.below:
        if part.name == "nodes":
            yield part
        elif part.name == "edges":
            yield from (member for member in part.below if member.name == "node")


def read_connection(field: Ahead, cursor: Callable[[Row], str], read_node: Callable[[Ahead], None]) -> None:
    """Reads a connection from a `RowPage`; `read_node` says how its nodes are read from a row."""
    for part in field.below:
        if part.name in {"nodes", "edges"}:
            part.read(_ROWS)
            for member in part.below if part.name == "edges" else ():
                if member.name != "__typename":
                    member.read(cursor if member.name == "cursor" else itself)
    for node in nodes(field):
        read_node(node)
