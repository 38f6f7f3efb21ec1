"""Finds what is wrong with an artifact or a run: missing, changed and foreign files, plugins, tensors, answers.

Nothing before `check_tensors` imports torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mgzoo.contracts import contract_of
from mgzoo.discovery import current_id, discover, known_distributions
from mgzoo.hub import folder as folders
from mgzoo.hub import manifest as manifests
from mgzoo.hub import refs
from mgzoo.hub.manifest import ArtifactError, Manifest, Reference, problem
from mgzoo.hub.strict import short
from mgzoo.spec import MgzooError, Problem, RecipeError

AGAIN = "pull or save the artifact again"


def refuse(problems: Sequence[Problem]) -> None:
    """Raise `ArtifactError` if there is any problem."""
    if problems:
        raise ArtifactError(problems)


def check_files(
    folder: Path, manifest: Manifest, names: Iterable[str] | None = None, digest_of: Callable[[Path], str] = manifests.digest_file
) -> list[Problem]:
    """Compare files (default all that the manifest lists) with their size and digest. digest_of: takes the digest of a file."""
    problems = []
    for name in manifest.files if names is None else names:
        entry = manifest.files.get(name)
        if entry is None:
            problems.append(problem("unlisted", f"{name} is not listed in {manifests.NAME}", AGAIN, folder))
        else:
            problems += check_file(folder, name, entry.size, entry.blake3, digest_of=digest_of)
    return problems


def check_file(
    folder: Path, name: str, size: int, digest: str, remedy: str = AGAIN, digest_of: Callable[[Path], str] = manifests.digest_file
) -> list[Problem]:
    """Compare one file with what it should be; a link is only followed inside a hub's cache."""
    path = folder / name
    if not path.is_file():
        return [problem("missing-file", "the file is missing", remedy, path)]
    if not any(path.resolve().is_relative_to(place) for place in _holding(folder.resolve())):
        return [problem("link", "the file is a link that leads out of the artifact", "do not use this artifact", path)]
    actual = path.stat().st_size
    if actual != size:
        return [problem("size", f"the file has {actual:,} bytes, expected {size:,}", remedy, path)]
    actual = digest_of(path)
    if actual != digest:
        return [problem("digest", f"the file has blake3 {actual}, expected {digest}", remedy, path)]
    return []


def _holding(folder: Path) -> list[Path]:
    """Where the files of an artifact may lie: in it; of one in the Hugging Face cache, with its repository's files or the shared ones."""
    if folder.parent.name != "snapshots":
        return [folder]
    return [folder.parents[1], folder.parents[2] / "blobs"]


def check_plugins(manifest: Manifest, folder: str | Path) -> list[Problem]:
    """Every part whose component no installed plugin declares, with the pip line where our own list knows one."""
    registry, known, problems = discover(), known_distributions(), {}
    for name, part in sorted(manifest.parts.items()):
        namespace = part.use.split(".", 1)[0]
        if registry.find(part.use):
            continue
        what, remedy = registry.unknown(part.use)
        if namespace not in registry.providers and namespace not in known:
            # The manifest may name any distribution: its word alone is no reason to tell a person to install it.
            named = ", ".join(requirement.distribution for requirement in manifest.requires)
            what = f"no installed plugin declares {part.use!r}"
            remedy = f"find out which plugin that is and whether you trust it; the artifact was made with {named or 'none named'}"
        problems[part.use] = problem("plugin", what, remedy, Path(folder) / manifests.NAME, f"parts.{name}.use")
    return list(problems.values())


def check_requires(folder: Path, manifest: Manifest) -> list[Problem]:
    """Distributions that the manifest requires and that supply no part, and those that do and are not required."""
    from mgzoo.recipe import compose

    recipe, where = compose(folder / "recipe.yaml"), folder / manifests.NAME
    supplied = {part.provider.distribution for part in (*recipe.parts.values(), recipe.data) if part is not None}
    listed = {one.distribution for one in manifest.requires}
    remedy = "save the artifact again; what it requires follows from its parts"
    problems = [problem("requires", f"{name} is required and supplies no part", remedy, where, "requires") for name in sorted(listed - supplied)]
    return problems + [problem("requires", f"{name} supplies a part and is not required", remedy, where, "requires") for name in sorted(supplied - listed)]


def check_license(manifest: Manifest, licenses: Sequence[str], origin: str) -> list[Problem]:
    """A licence that the policy does not allow; an empty policy allows all."""
    if not licenses or manifest.license.lower() in {name.lower() for name in licenses}:
        return []
    remedy = f"allow it in policy.licenses, which has {', '.join(licenses)}, or choose another artifact"
    return [problem("license", f"its licence {manifest.license!r} is not allowed", remedy, origin, "license")]


def check_bases(manifest: Manifest, origin: Path | str, *, fetchable: bool = True) -> list[Problem]:
    """References whose artifact is not on this machine, is another one, or is damaged.

    fetchable: also report those that are not here but could be pulled from an endpoint.
    """
    problems = []
    for name, part in manifest.parts.items():
        if part.needs is None:
            continue
        reference, key = part.needs, f"parts.{name}.{'base' if part.is_adapter else 'weights'}"
        base = refs.local(str(reference))
        where = f"{origin}/{manifests.NAME}"
        if base is None and not fetchable and refs.parse(str(reference)).is_endpoint:
            continue
        if base is None:
            problems.append(problem("base", f"{reference} is not on this machine", f"mgzoo pull {reference}", where, key))
        elif (digest := manifests.digest_file(base / manifests.NAME)) != reference.digest:
            what = f"{reference} is not what was used: its {manifests.NAME} has blake3 {digest}, expected {reference.digest}"
            problems.append(problem("base", what, "pull the right one, or look at where this one came from", where, key))
        else:
            problems += check_files(base, manifests.read(base))
    return problems


def check_unlisted(folder: Path, manifest: Manifest) -> list[Problem]:
    """Files and links that lie in the artifact's folder and are no part of it."""
    problems = []
    for root, names, files in os.walk(folder):
        for name in [*files, *(name for name in names if (Path(root) / name).is_symlink())]:
            relative = (Path(root) / name).relative_to(folder).as_posix()
            if relative not in (manifests.NAME, manifests.SIGNATURE) and relative not in manifest.files:
                what = f"the file is not listed in {manifests.NAME}"
                problems.append(problem("unlisted", what, "move it away; it is never pushed", folder / relative))
    return problems


def check_contract(folder: Path, manifest: Manifest) -> list[Problem]:
    """What recipe.yaml says that the manifest does not: problems of its own, another component of a part, another contract. No weight
    is needed. Nothing where a plugin is missing, see `check_plugins`, or where there is no recipe."""
    from mgzoo.recipe import compose

    entry, path = manifest.files.get("recipe.yaml"), folder / "recipe.yaml"
    if entry is None or check_plugins(manifest, folder):
        return []
    if entry.size > manifests.MAX_RECIPE_BYTES:
        return [problem("syntax", f"recipe.yaml has {entry.size:,} bytes, more than {manifests.MAX_RECIPE_BYTES:,}", "do not use this artifact", path)]
    if damaged := check_files(folder, manifest, ["recipe.yaml"]):
        return damaged
    try:
        recipe = compose(path)
    except RecipeError as error:
        return list(error.problems)
    return check_parts(folder, manifest, recipe) + _against_contract(folder, manifest, recipe)


def _against_contract(folder: Path, manifest: Manifest, recipe) -> list[Problem]:
    made, built = manifest.contract, contract_of(recipe)
    return [
        problem("contract", f"is {_said(getattr(made, key))}, recipe.yaml and the plugins give {_said(getattr(built, key))}",
                "install the versions that the artifact requires, or save it again", folder / manifests.NAME, f"contract.{key}")
        for key in ("latent", "conditions", "feeds")
        if getattr(made, key) != getattr(built, key)
    ]  # fmt: skip


def _said(value) -> str:
    """A contract's field in words."""
    if isinstance(value, tuple):
        return ", ".join(map(_said, value)) or "none"
    fields = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else {}
    return " ".join(f"{key} {short(str(one))}" for key, one in fields.items()) or str(value)


def check_parts(folder: Path, manifest: Manifest, recipe) -> list[Problem]:
    """Hold the components of the manifest's parts against those of its recipe."""
    problems = []
    for name in sorted(recipe.parts.keys() | manifest.parts.keys()):
        use = current_id(manifest.parts[name].use) if name in manifest.parts else "nothing"
        wanted = recipe.parts[name].component.id if name in recipe.parts else "nothing"
        if use != wanted:
            remedy = "save the artifact again; its manifest and its recipe.yaml do not agree"
            problems.append(problem("part", f"the part is {use}, recipe.yaml has {wanted}", remedy, folder / manifests.NAME, f"parts.{name}"))
    return problems


def check_shapes(origin: str, shapes: Mapping[str, tuple[int, ...]], part) -> list[Problem]:
    """Compare stored names and shapes with those of a built part."""
    problems = []

    def differs(what: str) -> None:
        remedy = "the plugin's code is not what made these weights: install the versions the artifact requires"
        problems.append(problem("shape", what, remedy, origin))

    wanted = {key: tuple(value.shape) for key, value in part.state_dict().items()}
    for key in sorted(wanted.keys() - shapes.keys()):
        differs(f"{key} {list(wanted[key])} is missing")
    for key in sorted(shapes.keys() - wanted.keys()):
        differs(f"{key} {list(shapes[key])} belongs to nothing")
    for key in sorted(shapes.keys() & wanted.keys()):
        if shapes[key] != wanted[key]:
            differs(f"{key} has shape {list(shapes[key])}, the part has {list(wanted[key])}")
    return problems


def check_config(folder: Path, name: str, config) -> list[Problem]:
    """Hold a part's config.json, which recipes that start from these weights inherit, against the config in recipe.yaml."""
    stored, built = manifests.part_config(folder, name), json.loads(json.dumps(dataclasses.asdict(config)))
    return [
        problem("config", f"is {stored[key]!r}, recipe.yaml has {built[key]!r}", "save the artifact again", folder / name / "config.json", key)
        for key in sorted(stored.keys() & built.keys())
        if stored[key] != built[key]
    ]


def check_model(folder: Path, manifest: Manifest, model, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]) -> list[Problem]:
    """Hold the manifest's parts, and the shapes of their tensors by part, against the model that the recipe builds."""
    problems = check_parts(folder, manifest, model.recipe)
    other, with_weights = {one.key for one in problems}, model.part_names()
    remedy = "save the artifact again; its manifest and its recipe.yaml do not agree"
    for name, part in sorted(model.recipe.parts.items()):
        if f"parts.{name}" in other:
            continue
        if name in shapes:
            problems += check_config(folder, name, part.config) if f"{name}/config.json" in manifest.files else []
            problems += check_shapes(f"{folder / name}", shapes[name], model.part(name))
        elif name in with_weights and not manifest.parts[name].weights:
            problems.append(problem("part", "the part has no weights", remedy, folder / manifests.NAME, f"parts.{name}"))
    return problems


def check_headers(folder: Path, manifest: Manifest) -> list[Problem]:
    """The names and shapes in the headers of its weights against a model that has shapes and no memory; no tensor is read."""
    from mgzoo.hub import artifact
    from mgzoo.hub import tensors as stored
    from mgzoo.hub.unset import shell
    from mgzoo.recipe import compose

    files = {name: [folder / file for file in part.weights] for name, part in manifest.parts.items() if isinstance(part.weights, tuple)}
    shapes = {name: stored.headers(paths) for name, paths in files.items() if paths}
    shapes |= {name: artifact.adapted_shapes(folder, name) for name, part in manifest.parts.items() if part.is_adapter}
    recipe = compose(folder / "recipe.yaml")
    return _against_contract(folder, manifest, recipe) + check_model(folder, manifest, shell(recipe), shapes)


def check_tensors(folder: Path, manifest: Manifest) -> list[Problem]:
    """`check_headers`, and every stored value finite."""
    from mgzoo.hub import tensors as stored

    problems = check_headers(folder, manifest)
    own = [part.weights for part in manifest.parts.values() if isinstance(part.weights, tuple)]
    for path in (folder / name for names in own for name in names):
        for key, value in stored.read([path], finite=False).items():
            if not stored.is_finite(value):
                what = f"{key} holds values that are not finite"
                problems.append(problem("not-finite", what, "go back to an earlier commit", path))
    return problems


def check_probe(folder: Path, manifest: Manifest) -> list[Problem]:
    """Load the model and compare its answers with the stored ones; an artifact without a probe passes."""
    import torch

    from mgzoo.hub import artifact, probe

    if "probe/inputs.safetensors" not in manifest.files or "probe/outputs.safetensors" not in manifest.files:
        return []
    return probe.compare(artifact.load(folder, dtype=torch.float32), manifest.contract, folder)


def verify(path: str | Path, *, probe: bool = True, require_signature: str | Path | None = None) -> list[Problem]:
    """Every problem of an artifact's folder, a run's folder (its artifact and its checkpoints), a reference, a folder hub (every
    commit that it names), or a file that `mgzoo generate` wrote. require_signature: a public key, see `mgzoo.hub.signing`.

    Raises `MgzooError` where there is nothing of the kind.
    """
    run = Path(os.devnull if refs.is_url(path) else path)  # an address is no path
    if run.is_file():
        from mgzoo.hub import generated

        return generated.check(run)[1]
    if commits := _commits(run):
        return [one for commit in commits for one in verify(commit, probe=probe, require_signature=require_signature)]
    checkpoints = sorted(run.glob("checkpoints/*/manifest.json")) if run.is_dir() else []
    problems = [one for listing in checkpoints for one in _check_checkpoint(listing)]
    if checkpoints and refs.artifact_folder(run) is None:
        return problems
    folder = refs.local(path)
    if folder is None:
        folder = refs.resolve(path, offline=True)
    if require_signature is not None:
        from mgzoo.hub import signing

        problems += signing.check(folder, require_signature)
    try:
        return problems + _check_artifact(folder, probe)
    except RecipeError as error:
        return problems + list(error.problems)
    except MgzooError as error:
        return problems + [problem("artifact", error.what, error.remedy, error.origin or folder)]


def _commits(folder: Path) -> list[Path]:
    """The artifacts that a folder hub, or one name in it, names."""
    names = [found.parent for found in [folder / folders.REFS, *folder.glob(f"*/{folders.REFS}")] if found.is_file()]
    return [name / commit for name in names for commit in sorted(set(folders.read_refs(name.parent, name.name).values()))]


def _check_artifact(folder: Path, probe: bool) -> list[Problem]:
    manifest = manifests.read(folder)
    problems = check_files(folder, manifest) + check_unlisted(folder, manifest) + check_plugins(manifest, folder)
    problems += check_bases(manifest, folder)
    if not [one for one in problems if one.kind != "unlisted"]:
        problems += check_tensors(folder, manifest)
        if probe and not [one for one in problems if one.kind != "unlisted"]:
            problems += check_probe(folder, manifest)
    return problems


def _check_checkpoint(listing: Path) -> list[Problem]:
    folder, remedy = listing.parent, "resume from another checkpoint; `mgzoo train … --resume` skips this one"
    try:
        files = json.loads(listing.read_bytes())["files"]
        entries = [(name, entry["size"], entry["blake3"]) for name, entry in files.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [problem("manifest", f"the checkpoint's manifest cannot be read: {error}", remedy, listing)]
    return [problem for name, size, digest in entries for problem in check_file(folder, name, size, digest, remedy)]
