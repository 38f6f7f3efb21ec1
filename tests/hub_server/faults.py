"""What can go wrong on request. A fault is a mapping:

    on      regular expression, searched in "METHOD /path?query"
    times   how many requests it hits (default: every one)
    skip    how many it lets pass before
    do      status   answer ``status`` with ``code`` (X-Error-Code), ``message`` and ``headers``
            drop     close the connection after ``after`` bytes of the body that is sent or received
            cut      send the first ``after`` bytes, as if that were all
            flip     send one byte changed
            body     send the text ``body`` instead
            race     before the request is served, somebody else commits to the repository it is about
"""

from __future__ import annotations

import re
import threading

DROP, CUT, FLIP, BODY, STATUS, RACE = "drop", "cut", "flip", "body", "status", "race"


class Faults:
    """The faults that are switched on, and how often each has struck."""

    def __init__(self):
        self._faults, self._lock = [], threading.Lock()

    def replace(self, faults: list[dict]) -> None:
        """Switch on these and no others."""
        with self._lock:
            self._faults = [dict(fault) for fault in faults]

    def strike(self, request: str) -> dict:
        """The fault that hits this request, or an empty one."""
        with self._lock:
            for fault in self._faults:
                if not re.search(fault["on"], request) or fault.get("times") == 0:
                    continue
                if fault.get("skip", 0) > 0:
                    fault["skip"] -= 1
                    continue
                if "times" in fault:
                    fault["times"] -= 1
                return fault
        return {}
