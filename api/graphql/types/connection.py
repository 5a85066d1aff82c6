"""Connections (Relay): pages of a list with keyset cursors, which don't shift when new rows come."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import strawberry

from api.graphql.context import Info
from api.graphql.errors import ApiError

NodeType = TypeVar("NodeType")
Row = TypeVar("Row")


@strawberry.interface(description="Whatever has a global id, by which `node` finds it again.")
class Node:
    id: strawberry.ID = strawberry.field(description="Global id; opaque.")


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more follow; ask with `after: endCursor`.")
    has_previous_page: bool = strawberry.field(description="Whether this page began after a cursor.")
    start_cursor: str | None = strawberry.field(description="Cursor of the first row; null on an empty page.")
    end_cursor: str | None = strawberry.field(description="Cursor of the last row; null on an empty page.")


@strawberry.type(description="One row of a list with its cursor.")
class Edge(Generic[NodeType]):
    cursor: str = strawberry.field(description="Where the row stands in its list; give it as `after`.")
    node: NodeType = strawberry.field(description="The row itself.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[NodeType]):
    edges: list[Edge[NodeType]] = strawberry.field(description="The rows with their cursors.")
    page_info: PageInfo = strawberry.field(description="Where this page stands in the list.")

    @strawberry.field(description="The rows without their cursors.")
    def nodes(self) -> list[NodeType]:
        return [edge.node for edge in self.edges]


def page_size(info: Info, first: int) -> int:
    """`first` when it is allowed; raises `ApiError`."""
    limit = info.context.services.config.limits.page_size
    if not 0 <= first <= limit:
        raise ApiError(f"`first` is from 0 to {limit}.", "PAGE_SIZE_LIMIT")
    return first


def edges_and_info(
    rows: Sequence[Row], first: int, after: str | None, cursor: Callable[[Row], str], node: Callable[[Row], NodeType]
) -> tuple[list[Edge[NodeType]], PageInfo]:
    """A page from `first` + 1 rows, the last of which only shows that more follow."""
    edges = [Edge(cursor=cursor(row), node=node(row)) for row in rows[:first]]
    info = PageInfo(
        has_next_page=len(rows) > first,
        has_previous_page=after is not None,
        start_cursor=edges[0].cursor if edges else None,
        end_cursor=edges[-1].cursor if edges else None,
    )
    return edges, info
