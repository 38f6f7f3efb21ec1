"""In-memory cache for decoded media."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class DecodedCache:
    """Tensors (or tuples of them) by name.

    room: maximum bytes, None: unlimited. evict: whether to evict the least recently used. Without eviction for data read in epochs
    larger than the room: entries would always be evicted before their reuse.
    """

    def __init__(self, room: int | None, *, evict: bool = False):
        self.room, self.evict, self.used = room, evict, 0
        self._held: OrderedDict[Hashable, Any] = OrderedDict()

    def get_or_compute(self, name: Hashable, compute: Callable[[], Any]) -> Any:
        """The cached value of this name, or the result of `compute`. Shared: do not modify it in place."""
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
