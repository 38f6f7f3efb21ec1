"""Public DAC-VAE weights: from the layout that they are published in to ours, as an artifact that a recipe's `weights` can name.

    python -m mgzoo_autoencoders.dacvae_public weights.safetensors FOLDER [--space NAME]

Two layouts are known: that of DAC with its quantiser replaced (`decoder.model.N.block.0-4`), and that of the released DAC-VAE, whose decoder
interleaves a watermarking network with its own layers (`decoder.model.N.block.0-11`, `decoder.wm_model.*`). The watermark's tensors are left
out: what is decoded then carries none, which is for the user to hold against the weights' licence. Weight norm may be written as
weight_g and weight_v or as torch's parametrizations. Only safetensors files are read: a .pth is a pickle, and a pickle is code.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mgzoo.spec import MgzooError
from mgzoo_autoencoders.dacvae import DacVae
from mgzoo_autoencoders.dacvae_configs import DacVaeConfig

INTERLEAVED = {0: 0, 1: 1, 4: 2, 5: 3, 8: 4}  # the released decoder's layers of a level -> ours; all others are the watermark's
NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a public file under our names, the watermark's left out."""
    state, watermarked = {}, any(name.startswith("decoder.wm_model.") for name in tensors)
    levels = sum(bool(re.fullmatch(r"decoder\.model\.\d+\.block\.1\.bias", name)) for name in tensors)
    for name, tensor in tensors.items():
        for theirs, ours in NORM.items():
            name = name.replace(theirs, ours)
        if watermarked and (place := re.fullmatch(r"decoder\.model\.(\d+)\.block\.(\d+)\.(.+)", name)):
            level, layer, rest = int(place[1]), int(place[2]), place[3]
            if layer not in INTERLEAVED:
                continue
            name = f"decoder.model.{level}.block.{INTERLEAVED[layer]}.{rest}"
        elif name.startswith("decoder.wm_model."):
            place = re.fullmatch(r"decoder\.wm_model\.encoder_block\.pre\.([01])\.(.+)", name)
            if not place:
                continue
            name = f"decoder.model.{levels + 1 + int(place[1])}.{place[2]}"
        state[name] = tensor
    return state


def config_of(state: Mapping[str, Tensor], rate: int = 48_000, space: str = "autoencoders.dacvae128") -> DacVaeConfig:
    """The sizes that these weights (under our names) have. rate: no tensor tells it."""
    levels = [name for i in range(1, len(state)) if (name := f"encoder.block.{i}.block.4.weight_v") in state]
    n = len(levels)
    return DacVaeConfig(
        rate=rate, space=space, channels=state["quantizer.out_proj.weight_v"].shape[1], encoder_dim=state["encoder.block.0.weight_v"].shape[0],
        rates=tuple(state[name].shape[2] // 2 for name in levels), latent_dim=state[f"encoder.block.{n + 2}.weight_v"].shape[0],
        decoder_dim=state["decoder.model.0.weight_v"].shape[0],
    )  # fmt: skip


def load(path: str | Path, *, rate: int = 48_000, space: str = "autoencoders.dacvae128") -> DacVae:
    """An autoencoder with the weights of a public safetensors file. Its latents are as those weights give them: mean 0 and deviation 1
    are taken for granted until `calibrate` measures them.

    Raises MgzooError for another kind of file, for DAC's vector quantiser, and where tensors are missing, left over or of other shapes."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise MgzooError(f"{path.name} is not a safetensors file", remedy="convert it (a .pth is a pickle and can run code): torch.load(…, weights_only=True), then "
                         "safetensors.torch.save_file of its state_dict", origin=str(path))
    try:
        state = renamed(load_file(path))
    except (SafetensorError, OSError) as error:
        raise MgzooError(f"it cannot be read ({error})", remedy="download it again", origin=str(path)) from None
    if any(name.startswith("quantizer.quantizers.") for name in state):
        raise MgzooError("these are weights of DAC with a vector quantiser (discrete codes)", remedy="use weights of DAC-VAE", origin=str(path))
    try:
        part = DacVae(config_of(state, rate, space))
        found = part.load_state_dict({**{k: v.float() for k, v in state.items()}, "latent_mean": part.latent_mean, "latent_std": part.latent_std}, strict=False)
    except (KeyError, RuntimeError, ValueError) as error:
        raise MgzooError(f"the tensors do not match a DAC-VAE: {error}", remedy="use weights in the layout of descript-audio-codec", origin=str(path)) from None
    if wrong := [*found.missing_keys, *found.unexpected_keys]:
        raise MgzooError(f"{len(found.missing_keys)} missing and {len(found.unexpected_keys)} unexpected tensors, the first is {wrong[0]}",
                         remedy="use the complete file of one DAC-VAE", origin=str(path))
    return part.eval()


def convert(path: str | Path, folder: str | Path, *, space: str = "autoencoders.dacvae128", license: str = "unknown") -> Path:
    """Write public weights as an artifact, for `parts.autoencoder.weights` of a recipe. license: of the weights, as they were published."""
    import dataclasses
    import json
    import tempfile

    import mgzoo

    part = load(path, space=space)
    config = {name: value for name, value in dataclasses.asdict(part.config).items() if value != getattr(DacVaeConfig(), name)}
    with tempfile.TemporaryDirectory() as place:
        recipe = Path(place) / "recipe.yaml"
        parts = {"autoencoder": {"use": "autoencoders.dacvae.v1", "config": config}, "task": {"use": "autoencoders.codec.v1"}}
        recipe.write_text(json.dumps({"schema": 1, "description": "DAC-VAE from public weights", "parts": parts}))
        model = mgzoo.build(mgzoo.compose(recipe))
        model.autoencoder.load_state_dict(part.state_dict())
        return model.eval().save(folder, license=license, data_note=f"Converted from {Path(path).name}; the decoder's watermark is left out.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="a .safetensors file in the public layout")
    parser.add_argument("folder", type=Path, help="the artifact to write")
    parser.add_argument("--space", default="autoencoders.dacvae128", help="identity of the latent space")
    parser.add_argument("--license", default="unknown", help="licence of the weights, lower case")
    options = parser.parse_args()
    print(convert(options.weights, options.folder, space=options.space, license=options.license))


if __name__ == "__main__":
    with torch.no_grad():
        main()
