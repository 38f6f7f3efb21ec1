"""An artifact: a folder that holds a model. Saved whole or not at all, checked before it is used.

    README.md LICENSE mgzoo.json recipe.yaml recipe.lock.json
    <part>/config.json  <part>/model*.safetensors           parts with weights of their own; others are references
    <part>/adapter_config.json  <part>/adapter_model.safetensors      an adapter, in PEFT's format; its base is a reference
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

from mgzoo import adapters, precision, provenance, storage
from mgzoo.contracts import contract_of
from mgzoo.hub import bases, card, checking, peft, probe, refs
from mgzoo.hub import folder as folders
from mgzoo.hub import manifest as manifests
from mgzoo.hub import tensors as stored
from mgzoo.hub.manifest import FileEntry, Manifest, PartEntry, Reference, Requirement
from mgzoo.hub.unset import shell
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
    evaluation: str | Path | Sequence[Mapping] = (),
    dtype: torch.dtype | None = None,
    golden: bool = True,
    shard_bytes: int = stored.SHARD_BYTES,
) -> Path:
    """Write ``model`` as an artifact and return its folder; an artifact that stands there is replaced.

    state: weights that go before the model's own, part name -> tensor name -> tensor, e.g. the EMA's or those gathered from
        ZeRO ranks. metrics: training figures for the card and the manifest. curve: a PNG of the training curve.
    samples: a PNG and/or an MP4 that the model made. data_note: Markdown on the data and its licence. evaluation: figures as
        data, see `mgzoo.hub.card.evaluation`.
    dtype: of the stored parameters; default bfloat16 for parts of `BF16_FROM` parameters or more, else float32. int8 stores
        matrices in eight bits with a scale for each row (`mgzoo.hub.tensors.eight_bit`) and loads as bfloat16. Buffers keep their own. golden: run and store the golden probe. shard_bytes: weights above this size are split into several
        files with an index.
    A part whose weights still equal those of the hub artifact it came from is stored as a reference to it; of an adapted part
    the adapter alone is stored, and its base is a reference.
    Raises `MgzooError` (a tensor that is not finite, a full disk …); then, and when interrupted, nothing is left behind.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / manifests.NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise MgzooError(f"{folder} exists and is not an artifact", remedy="choose a new folder")
    figures = card.evaluation(evaluation)
    recipe = model.recipe
    state = {(name, key): value for name, tensors in (state or {}).items() for key, value in tensors.items()}
    with storage.disk_errors(f"saving {folder}"), folders.staging_folder(folder) as aside:
        entries, own = {}, []
        with_weights = set(model.part_names())
        for name, part in recipe.parts.items():
            trained, weights, base = False, (), None
            if name in with_weights:
                storage.write_file(aside / name / "config.json", _config_json(part.config))
                tensors, base = _given_tensors(model.part(name), name, state), model.bases.get(name)
                weights = None if part.adapter else _same_as_base(base, tensors)
                if weights is None:
                    own.append(name)
                    if part.adapter:
                        files = _write_adapter(model, name, tensors, aside / name, None if dtype is torch.int8 else dtype)
                    else:
                        cast = _cast(tensors, model.part(name), torch.bfloat16 if dtype is torch.int8 else dtype)
                        files = stored.write(stored.eight_bit(cast) if dtype is torch.int8 else cast, aside / name, shard_bytes=shard_bytes)
                    weights = tuple(f"{name}/{file}" for file in files)
                    trained = model.task is not None and name in model.task.trained(model)
                else:
                    base = None
            widened = model.widened.get(name, ()) if base else ()
            entries[name] = PartEntry(use=part.component.id, trained=trained, weights=weights, base=base, widened=widened)
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
            contract=contract_of(recipe),
            requires=_requirements(recipe),
            metrics=_figures(metrics or {}),
            files={},
        )
        if figures:
            card.write_evaluation(aside, figures)
        readme = card.write(manifest, model, data_note=data_note, pictures=pictures, name=_title(folder), figures=figures)
        storage.write_file(aside / "README.md", readme.encode())
        seal(manifest, aside)
        if golden:
            # The probe answers for what is stored, so it runs on a model loaded from it: that proves it loads, too.
            probe.write(load(aside, dtype=torch.float32), own, manifest.contract, aside)
            seal(manifest, aside)
        storage.replace_folder(aside, folder)
    return folder


def load(ref: str | Path, device: str = "cpu", dtype: torch.dtype | None = None):
    """Load an artifact as a `mgzoo.model.Model` in eval mode.

    ref: see `mgzoo.hub.refs`. dtype: of the parameters, default as stored, but float32 for what is stored in bfloat16 where the
    device has no instructions for it (`mgzoo.precision`). Every digest is checked before a weight is used. Raises `ArtifactError`
    with every problem, or `MgzooError`.
    """
    from mgzoo.recipe import compose

    folder, files = refs.resolve(ref), stored.Mapped()
    manifest = manifests.read(folder)
    checking.refuse(checking.check_files(folder, manifest, digest_of=files.digest) + checking.check_plugins(manifest, folder))
    recipe = compose(folder / "recipe.yaml")
    checking.refuse(peft.check(folder, manifest, recipe))
    tensors = {name: _tensors_of(folder, entry, files) for name, entry in manifest.parts.items() if entry.weights}
    # Without memory at first: a recipe that asks for more than its weights hold is refused before it is given any.
    shapes = {name: {key: tuple(value.shape) for key, value in state.items()} for name, state in tensors.items()}
    model = shell(recipe, device)
    checking.refuse(checking.check_model(folder, manifest, model, shapes))
    for name in list(tensors):
        fill(model.part(name), tensors.pop(name), dtype, device)
        entry = manifest.parts[name]
        if base := entry.needs or entry.base:
            model.bases[name], model.widened[name] = base, entry.widened
    return model.eval()


def weights_for(ref: str | Path, part: str) -> tuple[dict, dict[str, Tensor]]:
    """Config and plain weights of one part of an artifact, its digests checked; a reference is followed to its base, and an
    adapter is merged into its base."""
    folder, files = refs.resolve(ref), stored.Mapped()
    manifest = manifests.read(folder)
    entry = manifests.entry_of(manifest, part, str(ref))
    if not entry.weights:
        raise MgzooError(f"{part} has no weights in {ref}", remedy="drop `weights` from that part of the recipe")
    checking.refuse(checking.check_files(folder, manifest, [f"{part}/config.json", *_files_of(entry)], files.digest))
    return manifests.part_config(folder, part), _plain_of(folder, entry, files)


def base_of(ref: str | Path, part: str) -> Reference | None:
    """What a part that starts from ``ref`` has as its base; None for a folder that only this machine knows."""
    folder, parsed = refs.resolve(ref), refs.parse(ref)
    entry = manifests.entry_of(manifests.read(folder), part, str(ref))
    if isinstance(entry.weights, Reference) or parsed.repo is None:
        return entry.weights if isinstance(entry.weights, Reference) else None
    digest = manifests.digest_file(folder / manifests.NAME)
    commit = folder.name if parsed.is_endpoint else digest[: manifests.COMMIT_LENGTH]
    return Reference(repo=parsed.repo, commit=commit, part=part, digest=digest)


def adapted_shapes(folder: Path, part: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an adapted part's state: the adapter's beside its base's."""
    path, adapter = folder / part / manifests.ADAPTER_FILE, peft.config(folder / part)
    return {**bases.shapes_of(folder, part), **{peft.own_name(key, path, adapter): shape for key, shape in stored.headers([path]).items()}}


def fill(part: nn.Module, tensors: dict[str, Tensor], dtype: torch.dtype | None = None, device: str = "cpu") -> None:
    """Give a built part its weights, in their stored dtype (parameters: in ``dtype``, see `load`) and the part's memory layout.

    Those that are so already become the part's as they are. ``tensors`` is emptied on the way: a shard's file is let go as soon
    as the last tensor of it was copied.
    """
    target, device = part.state_dict(), torch.device(device)
    emulated = dtype is None and not precision.computes_bf16(device.type)
    parameters = {name for name, _ in part.named_parameters()}
    for key in list(tensors):
        value, own = tensors.pop(key), target[key]
        wanted = torch.float32 if emulated and value.dtype == torch.bfloat16 else dtype
        cast = wanted if wanted is not None and key in parameters and value.is_floating_point() else value.dtype
        # The part's strides keep channels_last: a convolution in the default layout is slower and rounds differently.
        if (value.dtype, value.stride(), value.device) != (cast, own.stride(), device):
            value = torch.empty_strided(own.shape, own.stride(), dtype=cast, device=device).copy_(value)
        target[key] = value
    part.load_state_dict(target, strict=True, assign=True)


def describe(
    folder: str | Path,
    *,
    metrics: Mapping[str, float | int | str] | None = None,
    curve: str | Path | None = None,
    samples: str | Path | Sequence[str | Path] = (),
    license: str | None = None,
    data_note: str = "",
    evaluation: str | Path | Sequence[Mapping] | None = None,
    overrides: Sequence[str] = (),
) -> Path:
    """Write a saved artifact's card again, weights untouched: figures that are added to those it has, pictures that are added
    or replaced, and the arguments of `save`; an evaluation it has stays unless another is given. overrides: ``a.b=value``
    that recipe.yaml and its lock then say, e.g. a path of one machine that nobody else should read. The artifact's commit
    becomes another one."""
    from mgzoo.model import build
    from mgzoo.recipe import compose

    folder = Path(folder)
    manifest = manifests.read(folder)
    checking.refuse(checking.check_files(folder, manifest))
    manifest = dataclasses.replace(
        manifest, metrics={**manifest.metrics, **_figures(metrics or {})}, license=license or manifest.license
    )
    model = build(compose(folder / "recipe.yaml", overrides), device="meta", weights=False)
    kept = folder / card.EVALUATION
    figures = card.evaluation(evaluation if evaluation is not None else kept if kept.is_file() else ())
    with storage.disk_errors(f"describing {folder}"), folders.staging_folder(folder) as aside:
        storage.copy_files(folder, aside, manifest.files)
        card.copy_pictures(aside, curve, samples)
        pictures = [path.name for path in aside.iterdir() if path.suffix in (".png", ".mp4")]
        readme = card.write(manifest, model, data_note=data_note, pictures=pictures, name=_title(folder), figures=figures)
        storage.write_file(aside / "README.md", readme.encode())
        storage.write_file(aside / "LICENSE", card.license_text(manifest.license).encode())
        card.write_evaluation(aside, figures) if figures else (aside / card.EVALUATION).unlink(missing_ok=True)
        if overrides:
            _write_texts(model.recipe, aside, manifest.license)
            _keep_data_pin(folder, aside, model.recipe)
        seal(manifest, aside)
        storage.replace_folder(aside, folder)
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
        if name not in (manifests.NAME, manifests.SIGNATURE)
    }
    (folder / manifests.SIGNATURE).unlink(missing_ok=True)  # it was of another mgzoo.json
    text = dataclasses.replace(manifest, files=entries).to_json().encode()
    manifests.parse(text, manifests.NAME)
    storage.write_file(folder / manifests.NAME, text)


def _files_of(entry: PartEntry) -> list[str]:
    """The files of a part that loading it reads, but for its config."""
    own = list(entry.weights) if isinstance(entry.weights, tuple) else []
    return [*own, own[0].replace(manifests.ADAPTER_FILE, peft.CONFIG)] if entry.is_adapter else own


def _tensors_of(folder: Path, entry: PartEntry, files: stored.Mapped) -> dict[str, Tensor]:
    """A part's tensors as the model that its artifact's recipe builds has them: an adapter's beside its base's."""
    if entry.is_adapter:
        return {**_referenced(entry.base), **peft.read((folder / entry.weights[0]).parent, files)[1]}
    return _plain_of(folder, entry, files)


def _plain_of(folder: Path, entry: PartEntry, files: stored.Mapped) -> dict[str, Tensor]:
    """A part's weights without an adapter beside them: it is merged into its base."""
    if isinstance(entry.weights, Reference):
        return _referenced(entry.weights)
    if not entry.is_adapter:  # finite as they were when they were saved, pushed and pulled: a look at each value again takes as long as a digest
        return stored.whole(files.tensors([folder / name for name in entry.weights], finite=False))
    adapter, own = peft.read((folder / entry.weights[0]).parent, files)
    return adapters.merged(_referenced(entry.base), own, adapter.scale)


def _referenced(reference: Reference) -> dict[str, Tensor]:
    """The plain weights behind a reference, all digests compared."""
    base, files = base_folder(reference), stored.Mapped()
    manifest = manifests.read(base)
    entry = manifests.entry_of(manifest, reference.part, str(reference))
    if not isinstance(entry.weights, tuple) or not entry.weights:
        raise MgzooError(f"{reference} holds no weights of {reference.part}", remedy="reference the artifact that holds them")
    checking.refuse(checking.check_files(base, manifest, _files_of(entry), files.digest))
    return _plain_of(base, entry, files)


def _write_adapter(model, name: str, tensors: Mapping[str, Tensor], folder: Path, dtype: torch.dtype | None) -> list[str]:
    """Write the adapter on a part, whose other tensors must be those of its base; returns the weight files' names."""
    part, adapter, base = model.part(name), model.recipe.parts[name].adapter, model.bases.get(name)
    merge = "fold the adapter into plain weights before saving: mgzoo.adapters.merge(model)"
    if base is None:
        raise MgzooError(f"the adapter on {name} has no base that others can reach", remedy=f"start from `weights: registry/NAME` or org/name, or {merge}")
    own = {key: tensors[key] for key in adapters.state(part)}
    rest = {key: value for key, value in tensors.items() if key not in own}
    stored_base = _referenced(base)
    if not _equal({key: value for key, value in stored_base.items() if key not in own}, rest):
        raise MgzooError(f"the weights of {name} beside its adapter are not those of {base}, and an adapter stores no others", remedy=merge)
    return peft.write(part, adapter, adapters.beside(stored_base, _cast(own, part, dtype)), folder, base)


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
    count = sum(tensors[key].numel() for key in parameters if key in tensors)
    kept = dtype or (torch.bfloat16 if count >= BF16_FROM else torch.float32)
    floating = {key for key in parameters if own[key].is_floating_point()}
    return {key: value.to(kept if key in floating else own[key].dtype) for key, value in tensors.items()}


def _same_as_base(base: Reference | None, tensors: Mapping[str, Tensor]) -> Reference | None:
    """The hub artifact that the part came from, if it is here and every weight in it is still what is in ``tensors``."""
    folder = refs.local(str(base)) if base else None
    if folder is None or manifests.digest_file(folder / manifests.NAME) != base.digest:
        return None
    return base if _equal(_referenced(base), tensors) else None


def _equal(base: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
    # In the dtype the model has in memory: rounding a frozen part for speed does not make it another one.
    return base.keys() == tensors.keys() and all(torch.equal(base[key].to(value.dtype), value.cpu()) for key, value in tensors.items())


def _config_json(config) -> bytes:
    return (json.dumps(dataclasses.asdict(config), indent=1, sort_keys=True) + "\n").encode()


def _write_texts(recipe, folder: Path, license: str) -> None:
    from mgzoo import lock

    storage.write_file(folder / "recipe.yaml", recipe.to_yaml().encode())
    storage.write_file(folder / "recipe.lock.json", (json.dumps(lock.lock(recipe), indent=1, sort_keys=True) + "\n").encode())
    storage.write_file(folder / "LICENSE", card.license_text(license).encode())


def _keep_data_pin(old: Path, new: Path, recipe) -> None:
    """In the lock of a recipe whose data is called otherwise now, the digest of the data it was trained on."""
    from mgzoo import lock

    pinned, path = lock.read(old / "recipe.lock.json")["data"], getattr(recipe.data and recipe.data.config, "path", None)
    if len(pinned) == 1 and path:
        told = lock.read(new / "recipe.lock.json") | {"data": {path: next(iter(pinned.values()))}}
        storage.write_file(new / "recipe.lock.json", (json.dumps(told, indent=1, sort_keys=True) + "\n").encode())


def _requirements(recipe) -> tuple[Requirement, ...]:
    parts = [part for part in (*recipe.parts.values(), recipe.data) if part is not None]
    providers = {(part.provider.distribution, part.provider.version) for part in parts}
    return tuple(Requirement(distribution=name, version=version, source=provenance.source(name)) for name, version in sorted(providers))


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


