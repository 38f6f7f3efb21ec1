"""The model card: README.md of an artifact."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from mgzoo.artifact.manifest import MAX_MANIFEST_BYTES, Manifest, WeightsReference
from mgzoo.artifact.strict_json import parse_strict_json
from mgzoo.discovery import discover
from mgzoo.spec import MgzooError

DEFAULT_PROMPT = "a red heart"
EVALUATION_NAME = "evaluation.json"


def license_text(license: str) -> str:
    """The text of LICENSE: the full Apache-2.0 text, or the name of another licence."""
    if license.lower() != "apache-2.0":
        return f"The files of this artifact are under the licence {license}.\n"
    path = Path(__file__).parents[2] / "LICENSE"
    if path.is_file():
        return path.read_text()
    try:
        return distribution("mgzoo").read_text("licenses/LICENSE") or "See README.md.\n"
    except PackageNotFoundError:
        return "See README.md.\n"


def copy_pictures(folder: Path, curve: str | Path | None, samples: str | Path | Sequence[str | Path]) -> list[str]:
    """Copy ``curve`` to curve.png, the first PNG and MP4 of ``samples`` to sample.png and sample.mp4; returns their names."""
    samples = [samples] if isinstance(samples, str | os.PathLike) else list(samples)
    pictures = [("curve.png", Path(curve))] if curve is not None else []
    for suffix in (".png", ".mp4"):
        pictures += [(f"sample{suffix}", Path(path)) for path in samples if Path(path).suffix == suffix][:1]
    for name, path in pictures:
        if not path.is_file() or path.suffix != Path(name).suffix:
            raise MgzooError(f"{path} cannot be used as {name}", remedy=f"give an existing {Path(name).suffix} file")
        shutil.copyfile(path, folder / name)
    return [name for name, _ in pictures]


def parse_evaluation(given: str | Path | Sequence[Mapping], origin: str = "evaluation") -> list[dict]:
    """The content of evaluation.json: a list of ``{"name", "value", "baseline", "command"}``, or the JSON file that holds it.

    name: metric and data. value: a number or a short text. baseline: the reference value, optional.
    command: the command that prints the value, optional. Raises `MgzooError` for anything else.
    """
    remedy = 'write [{"name": "PSNR, held-out clips (dB)", "value": 23.8, "baseline": 21.0, "command": "mgzoo eval …"}]'
    if isinstance(given, str | os.PathLike):
        origin = os.fspath(given)
        try:
            data = Path(given).read_bytes()
            given = parse_strict_json(data) if len(data) <= MAX_MANIFEST_BYTES else None
        except FileNotFoundError:
            raise MgzooError("no such file", remedy="check the path", origin=origin) from None
        except (ValueError, RecursionError) as error:
            raise MgzooError(f"is not JSON: {error}", remedy=remedy, origin=origin) from None
    if not isinstance(given, list | tuple) or len(given) > 1000:
        raise MgzooError("an evaluation is a list of figures", remedy=remedy, origin=origin)
    for i, entry in enumerate(given):
        fields = {"name": _is_text, "value": _is_figure, "baseline": _is_figure, "command": _is_text}
        wrong = "" if isinstance(entry, Mapping) else "it is not an object"
        if not wrong and not {"name", "value"} <= entry.keys() <= fields.keys():
            wrong = f"it has {', '.join(map(str, entry)) or 'nothing'}, not name, value, baseline and command"
        wrong = wrong or next((f"{key} is {entry[key]!r}" for key in entry if not fields[key](entry[key])), "")
        if wrong:
            raise MgzooError(f"figure {i} cannot be used: {wrong}", remedy=remedy, origin=origin)
    return [dict(entry) for entry in given]


def _is_text(value) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 1000


def _is_figure(value) -> bool:
    return _is_text(value) or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def write_evaluation(folder: Path, figures: Sequence[Mapping]) -> None:
    """Write evaluation.json into the folder of a new artifact."""
    (folder / EVALUATION_NAME).write_text(json.dumps(list(figures), indent=1, ensure_ascii=False) + "\n")


def write_card(manifest: Manifest, model, *, data_note: str, pictures: Sequence[str], name: str, figures: Sequence[Mapping] = ()) -> str:
    """The Markdown of the card of a model (the meta device will do). figures: see `evaluation`."""
    recipe = model.recipe
    sections = [_front_matter(manifest, recipe), f"# {name}\n\n{_sentence(manifest.description)}"]
    if "sample.png" in pictures:
        sections.append("![what the model made](sample.png)")
    sections += [_parts(manifest, model), _recipe(manifest, recipe), _data(recipe, data_note), _training(manifest, pictures), _evaluation_table(figures)]
    sections += [_use(recipe), _limits(manifest)]
    sections += [f"## {heading}\n\n{text}" for heading, text in _hooked(model)]
    sections.append(f"## Licence\n\n{manifest.license} (see `LICENSE`). Made with mgzoo {manifest.mgzoo}.")
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(manifest: Manifest, recipe) -> str:
    task = recipe.parts.get("task")
    tags = ["mgzoo"] + ([task.component.id] if task else [])
    pipeline = {"text_to_video": "text-to-video", "text_to_image": "text-to-image"}
    kind = next((value for key, value in pipeline.items() if task and key in task.component.id), None)
    lines = ["---", "library_name: mgzoo", f"license: {manifest.license}", "tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join(lines + ([f"pipeline_tag: {kind}"] if kind else []) + ["---"])


def _sentence(text: str) -> str:
    text = text.strip() or "a model made with mgzoo"
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _parts(manifest: Manifest, model) -> str:
    with_weights = set(model.part_names())
    rows = []
    for name, part in manifest.parts.items():
        count = sum(p.numel() for p in model.part(name).parameters()) if name in with_weights else 0
        if isinstance(part.weights, WeightsReference):
            weights = f"`{part.weights}`"
        elif part.is_adapter:
            weights = f"an adapter, in this artifact, on `{part.base}`"
        elif part.weights:
            weights = ("trained, in this artifact" if part.trained else "in this artifact") + (f", from `{part.base}`" if part.base else "")
        else:
            weights = "–"
        rows.append(f"| {name} | `{part.use}` | {_count(count) if count else '–'} | {weights} |")
    lines = ["## What it is made of", "", "| part | component | parameters | weights |", "|---|---|---|---|", *rows]
    latent = manifest.contract.latent
    if latent:
        stride = "x".join(map(str, latent.stride))
        lines += ["", f"Latent space `{latent.space}`: {latent.channels} channels, {stride} compression."]
    for spec in manifest.contract.conditions:
        longest = f", at most {spec.max_len} long" if spec.max_len else ""
        lines += ["", f"Condition `{spec.name}`: {spec.kind}, width {spec.dim}{longest}."]
    return "\n".join(lines)


def _recipe(manifest: Manifest, recipe) -> str:
    stages = ", ".join(f"{stage.name} {stage.steps} steps" for stage in recipe.stages) or f"{recipe.train.steps} steps"
    return (
        "## Recipe\n\n"
        f"Seed {recipe.seed}, batches of {recipe.train.batch}, learning rate {recipe.train.lr:g}, {manifest.metrics.get('precision', recipe.train.precision)}; {stages}.\n\n"
        "`recipe.yaml` holds every setting, `recipe.lock.json` the versions and digests it was made with.\n"
        "`mgzoo train recipe.yaml --out RUN` trains it again, where its data is."
    )


def _training(manifest: Manifest, pictures: Sequence[str]) -> str:
    lines = ["No figures of the training were kept."]
    if manifest.metrics:
        lines = ["| figure | value |", "|---|---|"]
        lines += [f"| {_cell(name.replace('_', ' '))} | {_figure(value)} |" for name, value in manifest.metrics.items()]
    if "curve.png" in pictures:
        lines += ["", "![training curve](curve.png)"]
    return "\n".join(["## Training", "", *lines])


def _evaluation_table(figures: Sequence[Mapping]) -> str:
    if not figures:
        return "## Evaluation\n\nIt has not been evaluated."
    lines = ["| figure | value | held against | command |", "|---|---|---|---|"]
    for one in figures:
        baseline, command = (one.get(key) for key in ("baseline", "command"))
        shown = "–" if command is None else f"`{_cell(command).replace('`', chr(39))}`"
        lines.append(f"| {_cell(one['name'])} | {_figure(one['value'])} | {'–' if baseline is None else _figure(baseline)} | {shown} |")
    return "\n".join(["## Evaluation", "", *lines, "", f"The same figures as data: `{EVALUATION_NAME}`."])


def _data(recipe, note: str) -> str:
    lines = ["Its recipe names no data."]
    if recipe.data is not None:
        license = getattr(recipe.data.config, "license", "") or "not stated"
        lines = [f"Read by `{recipe.data.component.id}`; licence of the data: {license}."]
    if note.strip():
        lines += ["", note.strip()]
    return "\n".join(["## Data", "", *lines])


def _use(recipe) -> str:
    task = recipe.parts.get("task")
    if recipe.parts.get("backbone") is None or task is None:
        lines = [f"  {name}: {{use: {part.component.id}, weights: REF, frozen: true}}" for name, part in recipe.parts.items() if "." not in name]
        return "\n".join(["## How to use it", "", "As the frozen part of a recipe:", "", "```yaml", "parts:", *lines[:1], "```"])
    return (
        "## How to use it\n\nREF is where you found this model: a folder, `registry/NAME`, or `org/name` on a hub.\n\n"
        f'```sh\nmgzoo generate REF "{DEFAULT_PROMPT}" --seed 0 --out out.mp4\n```\n\n'
        f'```python\nimport mgzoo\n\nmodel = mgzoo.load("REF")\nmodel.generate("{DEFAULT_PROMPT}", seed=0).save("out.mp4")\n```\n\n'
        "`mgzoo verify REF` compares every file with its digest and the model's answers with the stored ones."
    )


def _limits(manifest: Manifest) -> str:
    return (
        "## Limits\n\nIt knows what its data showed and little else: expect nothing useful for prompts, sizes and durations far\n"
        "from those it was trained on. It has not been examined for bias or for harmful output.\n\n"
        "It needs these plugins: " + (", ".join(f"`{r.distribution}` {r.version}" for r in manifest.requires) or "none") + "."
    )


def _hooked(model) -> list[tuple[str, str]]:
    return [(str(heading), str(text)) for part in discover().hook.mgzoo_card(model=model) for heading, text in part.items()]


def _count(number: int) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return str(number)


def _figure(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _cell(str(value))


def _cell(text: str) -> str:
    """A text escaped for a cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())
