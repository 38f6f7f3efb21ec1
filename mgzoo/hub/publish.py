"""An artifact's folder, copied to a folder hub or uploaded to an endpoint as one commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mgzoo import storage
from mgzoo.artifact.integrity import copy_artifact
from mgzoo.artifact.manifest import Manifest
from mgzoo.hub.folder_hub import publish_to_hub
from mgzoo.hub.references import ArtifactRef


def publish(folder: Path, manifest: Manifest, names: Sequence[str], target: ArtifactRef, *, parent: str | None, check: Callable[[], None]) -> str:
    """Publish the files ``names`` of an artifact and return the commit; its content has been checked already.

    parent: the commit this push was made on; another one there is refused. check: called when everything was uploaded and before the commit,
    raises where the folder changed meanwhile. Raises `MgzooError`; then nothing was published.
    """
    if target.hub is not None:
        with storage.disk_errors(f"pushing to {target.text}"):
            return publish_to_hub(target.hub, target.name, lambda staging: copy_artifact(folder, staging, manifest), tag=target.revision, parent=parent)
    from mgzoo.hub import huggingface

    return huggingface.publish(folder, names, target.repo, tag=target.revision, parent=parent, check=check)
