"""Artifacts and the hubs they live on: a folder such as ``registry/``, or an endpoint that speaks the Hugging Face protocol."""

from __future__ import annotations

from pathlib import Path


def push(source: str | Path, ref: str, *, parent: str | None = None, probe: bool = True, sign: str | Path | None = None, report=None) -> str:
    """Publish an artifact (or a run's) under ``HUB/NAME[@tag]``; see `mgzoo.hub.transfer.push`."""
    from mgzoo.hub import transfer

    return transfer.push(source, ref, parent=parent, probe=probe, sign=sign, report=report)


def pull(ref: str, dest: str | Path | None = None, *, licenses=(), require_signature: str | Path | None = None, report=None) -> Path:
    """Bring an artifact here and return its folder; see `mgzoo.hub.transfer.pull`."""
    from mgzoo.hub import transfer

    return transfer.pull(ref, dest, licenses=licenses, require_signature=require_signature, report=report)


def verify(path: str | Path, *, probe: bool = True, require_signature: str | Path | None = None) -> list:
    """Every problem of an artifact, a run, a folder hub or a generated file; see `mgzoo.hub.checking.verify`."""
    from mgzoo.hub import checking

    return checking.verify(path, probe=probe, require_signature=require_signature)
