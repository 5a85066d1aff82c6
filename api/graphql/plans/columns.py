"""The columns of a list's statement: each reader asks for those that it reads."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from db.lists import COLUMN, FIRST


class Columns:
    """Of one plan. Each is numbered when it is first asked for, which is where it stands in a row."""

    def __init__(self) -> None:
        self._at = {FIRST: 0}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._at)

    def at(self, name: str) -> int:
        if name not in COLUMN:
            raise ValueError(f"a list has no column {name}")
        return self._at.setdefault(name, len(self._at))

    def ask_for(self, *names: str) -> None:
        """Columns that are read by their names."""
        for name in names:
            self.at(name)

    def reader(self, *names: str) -> Callable[[Any], Any]:
        """What reads one from a row, or a tuple of several."""
        return itemgetter(*map(self.at, names))
