"""Places of the answer: where the values of a column stand, told only when an error asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass

Key = str | int


@dataclass(slots=True, eq=False)
class Place:
    """Where the values of a column stand: value n of it belongs to a value of the column `above`.

    A field (`key`) belongs to the object of its own number; the items of lists (`lengths`) lie side by side, one list
    after the other; some values of a column (`kept`) name their numbers there. `order` is a field's number among those
    selected, `nullable` says whether null may stand here, and `waits` whether its resolver is awaited.
    """

    above: "Place | None" = None
    key: str = ""
    order: int = 0
    nullable: bool = True
    waits: bool = False
    lengths: Sequence[int] | None = None
    kept: Sequence[int] | None = None

    def items(self, lengths: Sequence[int], *, nullable: bool) -> "Place":
        return Place(self, lengths=lengths, nullable=nullable)

    def some(self, kept: Sequence[int]) -> "Place":
        return Place(self, nullable=self.nullable, kept=kept)

    def trail(self, number: int, *, raised: bool = False) -> "Trail":
        """Where value `number` stands; `raised` says that the resolver raised there, which it mostly does at once."""
        path: list[Key] = []
        order: list[int] = []
        nullable: list[bool] = []
        waits = -1 if raised and self.waits else 0
        place = self
        while place.above is not None:
            if place.kept is not None:
                number = place.kept[number]
            elif place.lengths is not None:
                number, item = _list_of(place.lengths, number)
                path.append(item)
                order.append(item)
                nullable.append(place.nullable)
            else:
                path.append(place.key)
                order.append(place.order)
                nullable.append(place.nullable)
                waits += 2 * place.waits
            place = place.above
        path.reverse()
        nullable.reverse()
        depth = len(path)
        while depth and not nullable[depth - 1]:
            depth -= 1
        return Trail(path, (waits, *reversed(order)), tuple(path[:depth]))

    def field(self, number: int) -> "tuple[Place, int]":
        """The field that value `number` belongs to, and its number there."""
        place = self
        while place.above is not None:
            if place.kept is not None:
                number = place.kept[number]
            elif place.lengths is not None:
                number = _list_of(place.lengths, number)[0]
            else:
                break
            place = place.above
        return place, number


@dataclass(frozen=True, slots=True)
class Trail:
    """`nulled` is the path of the nearest place that may be null: there an error is caught. By `order` errors come as
    graphql-core finds them: what waits for fewer resolvers first (what one raises before what is found in what another
    gave), then in the order of the answer."""

    path: list[Key]
    order: tuple[int, ...]
    nulled: tuple[Key, ...]


def _list_of(lengths: Sequence[int], number: int) -> tuple[int, int]:
    """Which list the item is in, and its number there."""
    for place, length in enumerate(lengths):
        if number < length:
            return place, number
        number -= length
    raise IndexError(number)
