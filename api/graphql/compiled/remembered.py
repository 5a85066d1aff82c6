"""What was made of documents, remembered by their texts."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")

LONGEST: Final = 10_000
"""Characters of a text that is remembered."""
_MOST: Final = 100_000
"""Characters of all of them together. What is made of a document takes some 450 bytes a character, all in all, so that
documents without end come to 45 MB."""


class Remembered(Generic[Value]):
    """The values asked for last. A value that isn't there and one that is None look alike: see `in`."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._characters = 0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> Value | None:
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, value: Value, text: str) -> None:
        """`text` is what the value was made of; a long one is not remembered."""
        if len(text) > LONGEST or key in self._kept:
            return
        self._kept[key] = value, len(text)
        self._characters += len(text)
        while self._characters > _MOST:
            _, (_, characters) = self._kept.popitem(last=False)
            self._characters -= characters
