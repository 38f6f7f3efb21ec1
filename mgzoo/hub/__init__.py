"""Artifacts and the hubs they live on: a folder such as ``registry/``, or an endpoint that speaks the Hugging Face protocol."""

from __future__ import annotations

from pathlib import Path


def push(source: str | Path, ref: str, *, parent: str | None = None, probe: bool = True, report=None) -> str:
    """Publish an artifact (or a run's) under ``HUB/NAME[@tag]``; see `mgzoo.hub.transfer.push`."""
    from mgzoo.hub import transfer

    return transfer.push(source, ref, parent=parent, probe=probe, report=report)


def pull(ref: str, dest: str | Path | None = None, *, licenses=(), report=None) -> Path:
    """Bring an artifact here and return its folder; see `mgzoo.hub.transfer.pull`."""
    from mgzoo.hub import transfer

    return transfer.pull(ref, dest, licenses=licenses, report=report)


def verify(path: str | Path, *, probe: bool = True) -> list:
    """Every problem of an artifact or a run; see `mgzoo.hub.checking.verify`."""
    from mgzoo.hub import checking

    return checking.verify(path, probe=probe)
