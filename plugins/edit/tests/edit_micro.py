"""A micro editor for the tests: 16x16, 16 frames, two latents of time, and clips of plain shades."""

import torch

import mgzoo
from mgzoo.model.build import build
from mgzoo.parts import Clip

RECIPE = """
schema: 1
parts:
  autoencoder: {use: autoencoders.tae.v1, config: {size: tiny}, frozen: true}
  encoders:
    text: {use: encoders.bytes.v1, config: {width: 32, depth: 1, heads: 2, buckets: 256, max_len: 24}}
  backbone: {use: backbones.llama3.v1, config: {depth: 2, width: 64, heads: 2, ffn: 128, patch: [1, 1, 1], max_len: [4, 4, 4], frequency_dim: 32}}
  objective: {use: samplers.flow_matching.v1}
  sampler: {use: samplers.euler.v1, config: {steps: 2, guidance_scales: {source: 1.5, text: 3.0}}}
  task: {use: edit.instruct.v1, config: {frames: 16, height: 16, width: 16, fps: 8, dim: 16}}
train: {batch: 4, precision: fp32}
"""
COLOURS = {"red": (1.0, 0.2, 0.2), "blue": (0.2, 0.2, 1.0)}
MOVES = "a clip that moves"


def model(tmp_path, text: str = RECIPE):
    """An untrained editor whose zero-initialised layers are awake."""
    file = tmp_path / "edit.yaml"
    file.write_text(text)
    made = build(mgzoo.compose(file))
    torch.manual_seed(0)
    torch.nn.init.normal_(made.backbone.output.weight, std=0.05)
    torch.nn.init.normal_(made.backbone.modulation.weight, std=0.05)
    return made


def shaded(shade: float, colour=(1.0, 1.0, 1.0), frames: int = 1, moving: bool = False):
    """uint8 (F, 16, 16, 3): one half of this shade, in a colour, the other half dark; moving: the border between them."""
    video = torch.full((frames, 16, 16, 3), 20.0)
    for i in range(frames):
        edge = 4 + i // 2 if moving else 8
        video[i, :, :edge] = 255 * shade * torch.tensor(colour)
    return video.round().to(torch.uint8)


def pair(shade: float, colour: str, frames: int = 1, moving: bool = False, task: str = "texture", made: bool = False) -> Clip:
    """The edit that this editor learns: ``make it red`` of a grey of some shade, whose target keeps the shade. made: the source is a bad one."""

    def source():
        video = shaded(shade, frames=frames, moving=moving)
        return (video.float() * 0.6 + 50).to(torch.uint8) if made else video

    name = f"{shade} {colour} {frames} {moving} {made}"
    return Clip(key=name, digest=f"target {name}", caption=f"make it {colour}", frames=frames, height=16, width=16, fps=8.0,
                load=lambda: shaded(shade, COLOURS[colour], frames, moving),
                extra={"task": task, "source": source, "source_digest": f"source {name}"})


def text_to_video(colour: str, frames: int = 16) -> Clip:
    return Clip(key=colour, digest=f"plain {colour} {frames}", caption=f"a {colour} clip", frames=frames, height=16, width=16, fps=8.0,
                load=lambda: shaded(0.9, COLOURS[colour], frames), extra={"task": "text_to_video", "source": None})


def descend(made, batches, steps: int, lr: float = 4e-3) -> None:
    """Train the editor on prepared examples in turn."""
    parts = [made.task, made.backbone, made.encoders]
    optimiser = torch.optim.AdamW([p for part in parts for p in part.parameters()], lr=lr)
    examples = [made.task.prepare(made, batch) for batch in batches]
    for step in range(steps):
        optimiser.zero_grad()
        made.task.loss(made, examples[step % len(examples)], torch.Generator().manual_seed(step)).total.backward()
        optimiser.step()


def held(made, clips) -> float:
    """Validation loss of these clips."""
    return made.task.validate(made, made.task.prepare(made, clips), torch.Generator().manual_seed(7))["loss"]
