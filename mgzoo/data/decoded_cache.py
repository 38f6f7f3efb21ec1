"""What was decoded, held in memory while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class DecodedCache:
    """Tensors (or tuples of them) by name.

    room: bytes held at most, None for any number. evict: whether the least recently used leave for new ones. Data that is read in rounds
    longer than the room is better off without: what is held would always have left before it is asked for again.
    """

    def __init__(self, room: int | None, *, evict: bool = False):
        self.room, self.evict, self.used = room, evict, 0
        self._held: OrderedDict[Hashable, Any] = OrderedDict()

    def get_or_compute(self, name: Hashable, compute: Callable[[], Any]) -> Any:
        """What is held under this name, or what `compute` gives. Shared: do not change it in place."""
        if name in self._held:
            self._held.move_to_end(name)
            return self._held[name]
        value = compute()
        size = _bytes(value)
        if self.room is None or size <= (self.room if self.evict else self.room - self.used):
            self._held[name] = value
            self.used += size
            while self.room is not None and self.used > self.room:
                self.used -= _bytes(self._held.popitem(last=False)[1])
        return value


def _bytes(value: Any) -> int:
    return sum(tensor.nbytes for tensor in (value if isinstance(value, tuple) else (value,)))
