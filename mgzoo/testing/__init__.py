"""The conformance kit: laws that every part must hold, ours and strangers' alike. One line in a plugin's tests runs it:

    TestAcme = conformance("acme")

Importing this package imports neither torch nor pytest; `conformance` imports pytest, and the laws import torch.
"""

from __future__ import annotations

_PLACES = {
    "Law": "mgzoo.testing.suite",
    "Subject": "mgzoo.testing.component_under_test",
    "conformance": "mgzoo.testing.suite",
    "laws": "mgzoo.testing.suite",
}

__all__ = [*_PLACES]


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module 'mgzoo.testing' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
