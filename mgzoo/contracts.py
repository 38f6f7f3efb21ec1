"""Compatibility checks between the parts of a recipe, without torch, before any download or build."""

from __future__ import annotations

from collections.abc import Collection

from mgzoo.artifact.manifest import part_entry, read_manifest
from mgzoo.discovery import current_id, discover
from mgzoo.hub.lookup import find_local, require_local, stored_shapes
from mgzoo.hub.references import parse_reference
from mgzoo.import_guard import run_guarded
from mgzoo.spec import Contract, LatentSpec, MgzooError, Problem, RecipeError

MEDIA = {"video": ("frames", "height", "width"), "sound": ("samples",)}


def contract_of(recipe) -> Contract:
    """The contract at the backbone of a recipe."""
    check = _Check(recipe)
    wires = check.wires()
    if check.problems:
        raise RecipeError(check.problems)
    return wires


def contract_problems(recipe) -> list[Problem]:
    """All incompatibilities, each with its recipe line; includes the checks of plugins."""
    check = _Check(recipe)
    wires = check.wires()
    check.roles()
    check.encoders(wires)
    check.layout(wires)
    check.objective()
    for name, part in recipe.parts.items():
        check.weights(name, part, wires)
    check.sizes(wires)
    check.batches()
    check.licenses()
    if not recipe.invalid_parts:
        check.problems += discover().check(recipe)
    return check.problems


def adapter_problems(recipe) -> list[Problem]:
    """Problems of adapters: no base weights, or never trained."""
    check, parts = _Check(recipe), dict(recipe.parts)
    if recipe.data:
        parts["data"] = recipe.data
    for name, part in parts.items():
        if part.adapter is None:
            continue
        key = "data" if name == "data" else f"parts.{name}"
        if not part.weights:
            check.problem("LoRA needs a base model: this part has no `weights`",
                          "add `weights` (the base artifact), or remove the adapter", f"{key}.adapter", "adapter")
        stages = [stage.set.get(f"{key}.frozen", part.frozen) for stage in recipe.stages] or [part.frozen]
        if all(frozen is True for frozen in stages):
            check.problem("the adapter on a frozen part is never trained", f"remove `frozen` (the base weights of {name} stay frozen anyway), or remove the adapter",
                          f"{key}.adapter", "adapter")
    return check.problems


def adapter_rank_problems(recipe) -> list[Problem]:
    """Adapters with a rank above the width of a target layer; shapes are from the headers of local weights."""
    check = _Check(recipe)
    for name, part in recipe.parts.items():
        if part.adapter is None or not part.weights:
            continue
        try:
            folder = find_local(part.weights)
            shapes = stored_shapes(folder, name) if folder else {}
        except MgzooError:  # said where weights are looked for
            continue
        layers = {key.removesuffix(".weight"): shape for key, shape in shapes.items() if key.endswith(".weight") and len(shape) == 2}
        for what, remedy in part.adapter.too_wide(layers):
            check.problem(what, remedy, f"parts.{name}.adapter.rank", "adapter")
    return check.problems


def missing_weights(recipe) -> list[Problem]:
    """Missing weights in local folders and folder hubs; weights on a network hub are downloaded when needed."""
    check = _Check(recipe)
    for name, part in recipe.parts.items():
        if part.weights:
            try:
                parsed = parse_reference(part.weights)
                if not parsed.is_endpoint:
                    require_local(part.weights)
                if part.adapter and parsed.repo is None:
                    check.problem(f"{part.weights} is a local folder, but an adapter needs a base with a name on a hub",
                                  "push the base to registry/NAME or org/name and use that reference", f"parts.{name}.weights", "adapter")
            except MgzooError as error:
                check.problem(error.what, error.remedy, f"parts.{name}.weights", "weights")
    return check.problems


class _Check:
    """One pass of checks over a recipe; collects `problems`."""

    def __init__(self, recipe):
        self.recipe, self.problems = recipe, []

    def problem(self, what: str, remedy: str, key: str, kind: str) -> None:
        self.problems.append(Problem(what=what, remedy=remedy, key=key, origin=self.recipe.origin(key), kind=kind))

    def query(self, part, question: str, *arguments, default=None):
        """Call a method of a part's config; a missing or failing method is a problem."""
        key = "data" if part.name == "data" else f"parts.{part.name}"
        method = getattr(part.config, question, None)
        if method is None:
            self.problem(f"the config of {part.component.id} has no {question}()", f"upgrade or repair {part.provider.distribution}", key, "plugin")
            return default

        def answer():
            try:
                return method(*arguments), None
            except ValueError as error:
                return default, str(error)

        found, reason = run_guarded(answer)
        if reason:
            self.problem(f"{question}() of the config of {part.component.id} failed: {reason}", f"upgrade or repair {part.provider.distribution}", key, "plugin")
            return default
        if found[1]:
            self.problem(found[1], f"change the config of {part.name}", f"{key}.config", "value")
        return found[0]

    def wires(self) -> Contract:
        parts, latent, concat_channels, conditions = self.recipe.parts, None, 0, []
        if "autoencoder" in parts:
            latent = self.query(parts["autoencoder"], "latent_spec")
        for name, part in parts.items():
            if part.kind == "encoder":
                conditions.append(self.query(part, "condition_spec", name.removeprefix("encoders.")))
        if task := parts.get("task"):
            conditions += self.query(task, "conditions", default=())
            concat_channels = self.query(task, "concat_channels", latent, default=0) if latent else 0
        return Contract(latent=latent, conditions=tuple(c for c in conditions if c is not None), concat_channels=concat_channels)

    def roles(self) -> None:
        """Missing and unused parts."""
        parts, task, broken = self.recipe.parts, self.recipe.parts.get("task"), {name.split(".")[0] for name in self.recipe.invalid_parts}
        there = {part.kind for part in parts.values()} | {"encoder" if name == "encoders" else name for name in broken}
        if task is None:
            if "backbone" in parts and "autoencoder" not in there:
                self.problem("the backbone needs an autoencoder: its latents are unknown", f"add one of {_all('autoencoder')}", "parts", "missing-part")
            return
        needs = self.query(task, "required_parts", default=())
        for kind in needs:
            if kind not in there:
                where = "parts.encoders.NAME" if kind == "encoder" else f"parts.{kind}"
                self.problem(f"{task.component.id} needs {_a(kind)}", f"add {where}, one of {_all(kind)}", "parts", "missing-part")
        for name, part in parts.items():
            if part.kind not in (*needs, "task"):
                self.problem(f"{task.component.id} uses no {part.kind}", f"remove parts.{name}", f"parts.{name}", "unused-part")

    def encoders(self, wires: Contract) -> None:
        task, sources = self.recipe.parts.get("task"), {}
        for name, part in self.recipe.parts.items():
            if part.kind != "encoder":
                continue
            sources[name.removeprefix("encoders.")] = f"encoder {name.removeprefix('encoders.')}"
            takes = self.query(part, "input_modality")
            gives = self.query(task, "modalities") if task and "encoder" in self.query(task, "required_parts", default=()) else None
            if takes is not None and gives is not None and takes not in gives:
                self.problem(f"{part.component.id} needs {takes} input; {task.component.id} provides none",
                             f"remove it, or choose an encoder of {' or '.join(gives) or 'another task'}", f"parts.{name}", "unused-encoder")
        names = [condition.name for condition in wires.conditions]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            makers = f"{sources[name]} and the task" if name in sources else "two of its parts"
            self.problem(f"duplicate condition {name!r}, from {makers}", "rename the encoder", f"parts.encoders.{name}", "condition-name")

    def layout(self, wires: Contract) -> None:
        """The layout of the latents (video or sound) must match the task."""
        task = self.recipe.parts.get("task")
        if task and wires.latent and hasattr(task.config, "layout"):
            wanted = self.query(task, "layout")
            if wanted != wires.latent.layout:
                autoencoder = self.recipe.parts["autoencoder"].component.id
                self.problem(f"{task.component.id} needs {wanted} latents; those of {autoencoder} are {wires.latent.layout}",
                             f"choose an autoencoder for {wanted}", "parts.autoencoder.use", "layout")

    def objective(self) -> None:
        objective, sampler = self.recipe.parts.get("objective"), self.recipe.parts.get("sampler")
        if objective and sampler:
            predicts, accepts = self.query(objective, "prediction_type"), self.query(sampler, "prediction_types", default=())
            if predicts is not None and predicts not in accepts:
                self.problem(f"{sampler.component.id} needs prediction type {' or '.join(accepts)}; {objective.component.id} has {predicts}",
                             f"choose one of {', '.join(_samplers(predicts)) or 'the samplers of another plugin'}", "parts.sampler.use", "prediction")

    def weights(self, name: str, part, wires: Contract) -> None:
        """Compare the manifest of the artifact in `weights` with the recipe."""
        if not part.weights:
            return

        key = f"parts.{name}.weights"
        try:
            parse_reference(part.weights)
            folder = find_local(part.weights)
            manifest = read_manifest(folder) if folder else None
            entry = part_entry(manifest, name, part.weights) if manifest else None
        except MgzooError as error:
            self.problem(error.what, error.remedy, key, "weights")
            return
        if manifest is None:
            return
        if current_id(entry.use) != part.component.id:
            self.problem(f"{part.weights} holds {entry.use}, not {part.component.id}", f"use: {entry.use}, or other weights", key, "component")
            return
        self.license(manifest.license, f"the weights {part.weights}", key)
        made, differs = manifest.contract, []
        if name in ("autoencoder", "backbone") and made.latent and wires.latent:
            differs += _latents(made.latent, wires.latent)
        theirs, ours = {c.name: c for c in made.conditions}, {c.name: c for c in wires.conditions}
        if name == "backbone":
            differs += [("condition", f"the condition {c!r}, missing in the recipe") for c in theirs if c not in ours]
            widens = getattr(part.config, "can_expand", bool)()  # then what the base lacks is added to it
            differs += [("condition", f"no condition {c!r}") for c in ours if c not in theirs and not widens]
            if made.concat_channels > wires.concat_channels or made.concat_channels < wires.concat_channels and not widens:
                differs.append(("feeds", f"{made.concat_channels} extra input channels, the recipe has {wires.concat_channels}"))
        elif part.kind == "encoder":
            theirs = {c: theirs[c] for c in theirs if c == name.removeprefix("encoders.")}
        if name == "backbone" or part.kind == "encoder":
            for c in theirs.keys() & ours.keys():
                differs += [("condition", f"a condition {c!r} of {field} {getattr(theirs[c], field)}, the recipe's has {getattr(ours[c], field)}")
                            for field in ("dim", "kind") if getattr(theirs[c], field) != getattr(ours[c], field)]
        for kind, what in sorted(differs):
            self.problem(f"{part.weights} was trained with {what}", "use the parts of the training run of these weights, or remove `weights`", key, kind)

    def sizes(self, wires: Contract) -> None:
        """Check the sizes of the data and of the task against the autoencoder's stride and the backbone's patches."""
        said = self.check_sizes(self.recipe.data, "data", "data.config", wires)
        task = self.recipe.parts.get("task")
        if hasattr(task and task.config, "sizes"):  # a task need not have a size of its own
            self.check_sizes(task, "task", "parts.task.config", wires, said)

    def check_sizes(self, part, label: str, key: str, wires: Contract, reported: Collection[str] = ()) -> set[str]:
        """Report the problems of a part's sizes, except those in `reported`; returns all."""
        backbone, latent = self.recipe.parts.get("backbone"), wires.latent
        if not (part and latent):
            return set()
        names, said = MEDIA.get(latent.layout), {}
        for size in self.query(part, "sizes", default=()) if names else ():
            if len(size) != len(names):
                said.setdefault(f"the size has {len(size)} axes; {latent.layout} latents need {', '.join(names)}", []).append("x".join(map(str, size)))
                continue
            # Time need not divide: an image is a video of one frame, and the last latent is padded.
            found = [f"{name} {n} is not a multiple of the autoencoder's stride {s}" for name, n, s in zip(names[1:], size[1:], latent.stride[1:]) if n % s]
            if backbone and not found:
                found = self.query(backbone, "validate_shapes", latent, wires.conditions, latent.axes(*size), default=())
            for sentence in found:
                said.setdefault(sentence, []).append("x".join(map(str, size)))
        for sentence, sizes in ((sentence, said[sentence]) for sentence in said if sentence not in reported):
            others = f" and {len(sizes) - 1} more" if len(sizes) > 1 else ""
            self.problem(f"{sentence} ({label} of {sizes[0]}{others})", f"change the size of the {label}, the stride or the patch", key, "size")
        return set(said)

    def batches(self) -> None:
        batch, micro = self.recipe.train.batch, self.recipe.train.micro_batch
        if micro and batch % micro:
            self.problem(f"a batch of {batch} is not divisible into micro-batches of {micro}", "choose a divisor of train.batch", "train.micro_batch", "batch")

    def licenses(self) -> None:
        data = self.recipe.data
        for name, part in [*self.recipe.parts.items(), *([("data", data)] if data else [])]:
            self.license(part.component.license, f"the component {part.component.id}", ("parts." if name != "data" else "") + f"{name}.use")
        if data and getattr(data.config, "license", ""):
            self.license(data.config.license, "the data", "data.config.license")
        for name, part in self.recipe.parts.items():
            if part.weights and (license := _license_of(part.weights)):
                self.license(license, f"the weights {part.weights}", f"parts.{name}.weights")

    def license(self, license: str, what: str, key: str) -> None:
        allowed = self.recipe.policy.licenses
        if allowed and license.lower() not in [name.lower() for name in allowed]:
            self.problem(f"the licence of {what} is {license}, not in policy.licenses", f"choose another, or add {license} to policy.licenses",
                         key, "license")


def _license_of(weights: str) -> str | None:
    """The licence of a local artifact; for others the licence is checked right after the download of the manifest."""
    folder = find_local(weights)
    try:
        return read_manifest(folder).license if folder else None
    except MgzooError:  # a damaged one is told where its config is read
        return None


def _latents(theirs: LatentSpec, ours: LatentSpec) -> list[tuple[str, str]]:
    kinds = {"space": "latent-space", "channels": "channels", "stride": "stride", "layout": "layout"}
    return [(kind, f"latents of {field} {getattr(theirs, field)}, the recipe's autoencoder has {getattr(ours, field)}")
            for field, kind in kinds.items() if getattr(theirs, field) != getattr(ours, field)]


def _samplers(predicts: str) -> list[str]:
    registry, found = discover(), []
    for component in registry.kind("sampler"):
        try:
            config = registry.config_class(component.id)
        except MgzooError:
            continue
        if predicts in config.tiny().prediction_types():
            found.append(component.id)
    return found


def _all(kind: str) -> str:
    return ", ".join(component.id for component in discover().kind(kind)) or "none is installed"


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeio" else f"a {kind}"
