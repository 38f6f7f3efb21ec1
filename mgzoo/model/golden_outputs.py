"""Golden outputs: a few fixed inputs of every stored part, and the outputs at the time of saving.

They detect changes in the code of a plugin, which digests cannot. They are computed in float32 for any storage dtype: the differences
between kinds of processors are a hundred times smaller than in bfloat16.
Shape letters as in `mgzoo.parts`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mgzoo.artifact.safetensors_header import read_metadata
from mgzoo.artifact.strict_json import problem, shorten
from mgzoo.artifact.tensors import read_tensors, write_tensor_file
from mgzoo.parts import Condition
from mgzoo.precision import processor
from mgzoo.spec import ConditionSpec, Problem

TEXTS = ("a red ball rolls over the grass", "rabbit hopping: 3 s, 24 fps", "")
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Largest relative L2 distance that counts as the same answer, by the precision in which the stored one was computed: other processors,
thread counts and kernels round differently: the shipped models by 3e-6 in float32 between SSE4.1 and AVX2, by 2e-2 in bfloat16 (our choice). bfloat16 stands in artifacts that were saved before probes were float32."""


def draw_inputs(model, names: Sequence[str], contract) -> dict[str, Tensor]:
    """Small fixed inputs for the named parts; ``contract``: from the manifest."""
    generator = torch.Generator().manual_seed(20_24)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    inputs: dict[str, Tensor] = {}
    latent = contract.latent
    if "autoencoder" in names and latent.layout == "video":
        t, y, x = latent.stride
        inputs["autoencoder.media"] = noise(1, 3, t + 1, 2 * y, 2 * x).mul(0.3).clamp(-1, 1)
    elif "autoencoder" in names and latent.layout == "sound":
        inputs["autoencoder.media"] = noise(1, 1, 8 * latent.stride[0]).mul(0.3).clamp(-1, 1)
    if "backbone" in names and latent is not None:
        axes = tuple(2 * patch for patch in model.recipe.parts["backbone"].config.patch)
        inputs["backbone.latents"] = noise(1, latent.channels + contract.concat_channels, *axes)
        inputs["backbone.t"] = torch.rand(1, generator=generator)
        for spec in contract.conditions:
            inputs[f"backbone.condition.{spec.name}"] = noise(*_condition_shape(spec, axes))
    return inputs


def _condition_shape(spec: ConditionSpec, axes: tuple[int, ...]) -> tuple[int, ...]:
    if spec.kind == "vector":
        return (1, spec.dim)
    length = axes[0] if spec.kind == "frames" else 4
    return (1, min(length, spec.max_len or length), spec.dim)


@torch.inference_mode()
def run_parts(model, names: Sequence[str], inputs: Mapping[str, Tensor], contract) -> dict[str, Tensor]:
    """Outputs of the named parts, float32."""
    outputs: dict[str, Tensor] = {}
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if "autoencoder.media" in inputs:
            media = inputs["autoencoder.media"]
            latents = model.autoencoder.encode(media)
            outputs["autoencoder.latents"] = latents
            outputs["autoencoder.media"] = model.autoencoder.decode(latents, tuple(media.shape[2:]))
        for name in names:
            if name.startswith("encoders.") and model.recipe.parts[name].config.input_modality() == "text":
                condition = model.part(name)(list(TEXTS))
                outputs[f"{name}.values"], outputs[f"{name}.mask"] = condition.values, condition.mask
        if "backbone.latents" in inputs:
            conditions = {}
            for spec in contract.conditions:
                values = inputs[f"backbone.condition.{spec.name}"]
                rows = values.shape[:2] if spec.kind == "tokens" else values.shape[:1]
                conditions[spec.name] = Condition(name=spec.name, values=values, mask=torch.ones(rows, dtype=torch.bool))
            outputs["backbone.prediction"] = model.backbone(inputs["backbone.latents"], inputs["backbone.t"], conditions)
    model.train(was_training)
    return {name: value.float() for name, value in outputs.items()}


def write_golden_outputs(model, names: Sequence[str], contract, folder: Path) -> list[str]:
    """Compute and store the golden outputs of ``names`` under ``folder``/probe; returns the file names."""
    inputs = draw_inputs(model, names, contract)
    outputs = run_parts(model, names, inputs, contract)
    about = {"parts": json.dumps(list(names)), "precision": "float32", "processor": processor()}
    write_tensor_file(inputs, folder / "probe" / "inputs.safetensors", about)
    write_tensor_file(outputs, folder / "probe" / "outputs.safetensors")
    return ["probe/inputs.safetensors", "probe/outputs.safetensors"]


def compare_golden_outputs(model, contract, folder: Path) -> list[Problem]:
    """Compute the golden outputs again, on a ``model`` in float32, and report every difference above `TOLERANCE`."""
    path = folder / "probe" / "inputs.safetensors"
    about = read_metadata(path)
    names = [name for name in json.loads(about.get("parts", "[]")) if name in model.part_names()]
    elsewhere = about.get("processor") not in (None, processor())
    expected = read_tensors([folder / "probe" / "outputs.safetensors"])
    actual = run_parts(model, names, read_tensors([path]), contract)
    problems = []
    for name, want in expected.items():
        got = actual.get(name)
        if got is None or got.shape != want.shape:
            what = "is missing" if got is None else f"has shape {tuple(got.shape)}, it was {tuple(want.shape)}"
        else:
            distance = (got - want).norm().item() / max(want.norm().item(), 1e-6)
            legacy = about.get("precision") != "float32" and _is_bf16(model.part(name.rpartition(".")[0]))
            limit = TOLERANCE["bfloat16" if legacy else "float32"]
            if distance <= limit:
                continue
            kind = f", made on another kind of processor ({shorten(about['processor'])}, here {processor()})" if elsewhere else ""
            what = f"differs by {distance:.2g} (relative L2) from the stored output{kind}, more than {limit:g}"
        problems.append(
            problem(
                "probe",
                f"golden output {name} {what}",
                "the code of the plugin has changed: install the versions in `requires` of mgzoo.json",
                path.with_name("outputs.safetensors"),
            )
        )
    return problems


def _is_bf16(part: nn.Module) -> bool:
    """Whether a part's float32 weights come from a bfloat16 file."""
    return all(torch.equal(value, value.bfloat16().float()) for value in part.parameters())
