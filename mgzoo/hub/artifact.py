"""An artifact: a folder that holds a model. Saved whole or not at all, checked before it is used.

    README.md LICENSE mgzoo.json recipe.yaml recipe.lock.json
    <part>/config.json  <part>/model*.safetensors           parts with weights of their own; others are references
    probe/inputs.safetensors  probe/outputs.safetensors      a golden probe
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mgzoo.hub import card, checking, probe, refs
from mgzoo.hub import folder as folders
from mgzoo.hub import manifest as manifests
from mgzoo.hub import tensors as stored
from mgzoo.hub.manifest import Contract, FileEntry, Manifest, PartEntry, Reference, Requirement
from mgzoo.spec import MgzooError

BF16_FROM = 1_000_000
"""Parts of at least this many parameters are stored in bfloat16 unless `save` is told otherwise (our choice)."""


def save(
    model,
    folder: str | Path,
    *,
    state: Mapping[str, Mapping[str, Tensor]] | None = None,
    metrics: Mapping[str, float | int | str] | None = None,
    curve: str | Path | None = None,
    samples: str | Path | Sequence[str | Path] = (),
    license: str = "apache-2.0",
    data_note: str = "",
    dtype: torch.dtype | None = None,
    golden: bool = True,
) -> Path:
    """Write ``model`` as an artifact and return its folder; an artifact that stands there is replaced.

    state: weights that go before the model's own, part name -> tensor name -> tensor, e.g. the EMA's or those gathered from
        ZeRO ranks. metrics: training figures for the card and the manifest. curve: a PNG of the training curve.
    samples: a PNG and/or an MP4 that the model made. data_note: Markdown on the data and its licence.
    dtype: of the stored parameters; default bfloat16 for parts of `BF16_FROM` parameters or more, else float32. Buffers
        keep their own. golden: run and store the golden probe.
    A part whose weights still equal those of the hub artifact it came from is stored as a reference to it.
    Raises `MgzooError` (a tensor that is not finite, a full disk …); then, and when interrupted, nothing is left behind.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / manifests.NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise MgzooError(f"{folder} exists and is not an artifact", remedy="choose a new folder")
    recipe = model.recipe
    state = {(name, key): value for name, tensors in (state or {}).items() for key, value in tensors.items()}
    with folders.disk_errors(f"saving {folder}"), folders.written_aside(folder) as aside:
        entries, own = {}, []
        with_weights = set(model.part_names())
        for name, part in recipe.parts.items():
            trained, weights = False, ()
            if name in with_weights:
                folders.write_file(aside / name / "config.json", _config_json(part.config))
                tensors = _given_tensors(model.part(name), name, state)
                weights = _same_as_base(part, name, tensors)
                if weights is None:
                    own.append(name)
                    tensors = _cast(tensors, model.part(name), dtype)
                    weights = tuple(f"{name}/{file}" for file in stored.write(tensors, aside / name))
                    trained = model.task is not None and name in model.task.trained(model)
            entries[name] = PartEntry(use=part.component.id, trained=trained, weights=weights)
        if state:
            name, key = sorted(state)[0]
            what = f"the state to save holds {key!r} of {name}, which has no such tensor"
            raise MgzooError(what, remedy="use the part's own names")
        _write_texts(recipe, aside, license)
        pictures = card.copy_pictures(aside, curve, samples)
        manifest = Manifest(
            mgzoo=_version(),
            description=recipe.description,
            license=license,
            parts=entries,
            contract=_contract(recipe),
            requires=_requirements(recipe),
            metrics=_figures(metrics or {}),
            files={},
        )
        readme = card.write(manifest, model, data_note=data_note, pictures=pictures, name=_title(folder))
        folders.write_file(aside / "README.md", readme.encode())
        seal(manifest, aside)
        if golden:
            # The probe answers for what is stored, so it runs on a model loaded from it: that proves it loads, too.
            probe.write(load(aside), own, manifest.contract, aside)
            seal(manifest, aside)
        folders.put_in_place(aside, folder)
    return folder


def load(ref: str | Path, device: str = "cpu", dtype: torch.dtype | None = None):
    """Load an artifact as a `mgzoo.model.Model` in eval mode.

    ref: see `mgzoo.hub.refs`. dtype: of the parameters, default as stored. Every digest is checked before a weight is
    used. Raises `ArtifactError` with every problem, or `MgzooError`.
    """
    from mgzoo.model import build
    from mgzoo.recipe import compose

    folder = refs.resolve(ref)
    manifest = manifests.read(folder)
    checking.refuse(checking.check_files(folder, manifest) + checking.check_plugins(manifest, folder))
    recipe = compose(folder / "recipe.yaml")
    tensors = {name: _tensors_of(folder, entry) for name, entry in manifest.parts.items() if entry.weights}
    # On the meta device first: a recipe that asks for more memory than its weights hold is refused before it is given any.
    shapes = {name: {key: tuple(value.shape) for key, value in state.items()} for name, state in tensors.items()}
    checking.refuse(checking.check_model(folder, manifest, build(recipe, device="meta", weights=False), shapes))
    model = build(recipe, device=device, weights=False)
    for name, state in tensors.items():
        fill(model.part(name), state, dtype)
    return model.eval()


def weights_for(ref: str | Path, part: str) -> tuple[dict, dict[str, Tensor]]:
    """Config and state dict of one part of an artifact, its digests checked; a reference is followed to its base."""
    folder = refs.resolve(ref)
    manifest = manifests.read(folder)
    entry = manifests.entry_of(manifest, part, str(ref))
    if not entry.weights:
        raise MgzooError(f"{part} has no weights in {ref}", remedy="drop `weights` from that part of the recipe")
    own = entry.weights if isinstance(entry.weights, tuple) else ()
    checking.refuse(checking.check_files(folder, manifest, [f"{part}/config.json", *own]))
    return manifests.part_config(folder, part), _tensors_of(folder, entry)


def fill(part: nn.Module, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Give a built part its weights, in their stored dtype (parameters: in ``dtype``) and the part's memory layout."""
    target = part.state_dict()
    parameters = {name for name, _ in part.named_parameters()}
    for key, value in tensors.items():
        cast = dtype if dtype is not None and key in parameters and value.is_floating_point() else value.dtype
        # empty_like keeps channels_last: a convolution in the default layout is slower and rounds differently.
        target[key] = torch.empty_like(target[key], dtype=cast).copy_(value)
    part.load_state_dict(target, strict=True, assign=True)


def describe(
    folder: str | Path,
    *,
    metrics: Mapping[str, float | int | str] | None = None,
    curve: str | Path | None = None,
    samples: str | Path | Sequence[str | Path] = (),
    license: str | None = None,
    data_note: str = "",
) -> Path:
    """Write a saved artifact's card again, weights and recipe untouched: figures that are added to those it has, pictures
    that are added or replaced, and the arguments of `save`. The artifact's commit becomes another one."""
    from mgzoo.model import build
    from mgzoo.recipe import compose

    folder = Path(folder)
    manifest = manifests.read(folder)
    checking.refuse(checking.check_files(folder, manifest))
    manifest = dataclasses.replace(
        manifest, metrics={**manifest.metrics, **_figures(metrics or {})}, license=license or manifest.license
    )
    model = build(compose(folder / "recipe.yaml"), device="meta", weights=False)
    with folders.disk_errors(f"describing {folder}"), folders.written_aside(folder) as aside:
        folders.copy_files(folder, aside, manifest.files)
        card.copy_pictures(aside, curve, samples)
        pictures = [path.name for path in aside.iterdir() if path.suffix in (".png", ".mp4")]
        readme = card.write(manifest, model, data_note=data_note, pictures=pictures, name=_title(folder))
        folders.write_file(aside / "README.md", readme.encode())
        folders.write_file(aside / "LICENSE", card.license_text(manifest.license).encode())
        seal(manifest, aside)
        folders.put_in_place(aside, folder)
    return folder


def base_folder(reference: Reference) -> Path:
    """The artifact a reference points to, with its digest compared. Raises `MgzooError` where it is another."""
    folder = refs.resolve(str(reference))
    digest = manifests.digest_file(folder / manifests.NAME)
    if digest != reference.digest:
        raise MgzooError(
            f"{reference} is not the artifact that was used: its {manifests.NAME} has digest {digest}, expected {reference.digest}",
            remedy="pull the right one, or look at where this one came from",
        )
    return folder


def seal(manifest: Manifest, folder: Path) -> None:
    """Write mgzoo.json, its digests those of everything that lies in the folder."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    entries = {
        name: FileEntry(size=(folder / name).stat().st_size, blake3=manifests.digest_file(folder / name))
        for name in names
        if name != manifests.NAME
    }
    text = dataclasses.replace(manifest, files=entries).to_json().encode()
    manifests.parse(text, manifests.NAME)
    folders.write_file(folder / manifests.NAME, text)


def _tensors_of(folder: Path, entry: PartEntry) -> dict[str, Tensor]:
    if isinstance(entry.weights, Reference):
        reference = entry.weights
        base = base_folder(reference)
        manifest = manifests.read(base)
        entry = manifests.entry_of(manifest, reference.part, str(reference))
        if not isinstance(entry.weights, tuple) or not entry.weights:
            raise MgzooError(f"{reference} holds no weights of {reference.part}", remedy="reference the artifact that holds them")
        checking.refuse(checking.check_files(base, manifest, entry.weights))
        folder = base
    return stored.read(folder / name for name in entry.weights)


def _given_tensors(part: nn.Module, name: str, state: dict) -> dict[str, Tensor]:
    """The part's tensors, those in ``state`` (which loses them) before its own."""
    tensors = {}
    for key, value in part.state_dict().items():
        tensors[key] = state.pop((name, key), value).detach()
        if tensors[key].shape != value.shape:
            raise MgzooError(
                f"{name}.{key} to save has shape {tuple(tensors[key].shape)}, the part has {tuple(value.shape)}",
                remedy="gather the weights of all ranks before saving",
            )
    return tensors


def _cast(tensors: Mapping[str, Tensor], part: nn.Module, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Parameters in their stored dtype, buffers in the part's."""
    parameters, own = {key for key, _ in part.named_parameters()}, part.state_dict()
    count = sum(parameter.numel() for parameter in part.parameters())
    kept = dtype or (torch.bfloat16 if count >= BF16_FROM else torch.float32)
    floating = {key for key in parameters if own[key].is_floating_point()}
    return {key: value.to(kept if key in floating else own[key].dtype) for key, value in tensors.items()}


def _same_as_base(part, name: str, tensors: Mapping[str, Tensor]) -> Reference | None:
    """A reference to the hub artifact the part came from, if every weight in it is still what is in ``tensors``."""
    if not part.weights:
        return None
    parsed = refs.parse(part.weights)
    folder = refs.local(part.weights)
    if parsed.repo is None or folder is None:
        return None
    entry = manifests.read(folder).parts.get(name)
    if entry is None or not entry.weights:
        return None
    base = _tensors_of(folder, entry)
    # In the dtype the model has in memory: rounding a frozen part for speed does not make it another one.
    same = base.keys() == tensors.keys()
    if not same or not all(torch.equal(base[key].to(value.dtype), value.cpu()) for key, value in tensors.items()):
        return None
    if isinstance(entry.weights, Reference):
        return entry.weights
    digest = manifests.digest_file(folder / manifests.NAME)
    commit = folder.name if parsed.is_endpoint else digest[: manifests.COMMIT_LENGTH]
    return Reference(repo=parsed.repo, commit=commit, part=name, digest=digest)


def _config_json(config) -> bytes:
    return (json.dumps(dataclasses.asdict(config), indent=1, sort_keys=True) + "\n").encode()


def _write_texts(recipe, folder: Path, license: str) -> None:
    from mgzoo import lock

    folders.write_file(folder / "recipe.yaml", recipe.to_yaml().encode())
    folders.write_file(folder / "recipe.lock.json", (json.dumps(lock.lock(recipe), indent=1, sort_keys=True) + "\n").encode())
    folders.write_file(folder / "LICENSE", card.license_text(license).encode())


def _contract(recipe) -> Contract:
    from mgzoo.contracts import wiring

    wires = wiring(recipe)
    return Contract(latent=wires.latent, conditions=tuple(wires.conditions), feeds=wires.feeds)


def _requirements(recipe) -> tuple[Requirement, ...]:
    parts = [part for part in (*recipe.parts.values(), recipe.data) if part is not None]
    providers = {(part.provider.distribution, part.provider.version) for part in parts}
    return tuple(Requirement(distribution=name, version=version) for name, version in sorted(providers))


def _figures(metrics: Mapping) -> dict[str, float | int | str]:
    """Flat figures: ``{"validation": {"loss": 1}}`` becomes ``validation.loss``; what is not finite becomes text."""
    figures = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            figures |= {f"{name}.{key}": figure for key, figure in _figures(value).items()}
        elif isinstance(value, bool | int | str):
            figures[str(name)] = str(value) if isinstance(value, bool) else value
        elif value is not None:
            number = float(value)
            figures[str(name)] = number if math.isfinite(number) else str(number)
    return figures


def _title(folder: Path) -> str:
    folder = folder.resolve()
    return folder.parent.name if folder.name == "artifact" else folder.name


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mgzoo")
    except PackageNotFoundError:
        return "0+unknown"


