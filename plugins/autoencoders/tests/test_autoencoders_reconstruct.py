"""Training an autoencoder: the terms against their formulas, what is learnt, what gradients reach."""

import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo_autoencoders.configs import ReconstructConfig, TaeConfig
from mgzoo_autoencoders.reconstruct import Reconstruct, to_media, to_uint8
from mgzoo_autoencoders.reconstruction_losses import PerceptualFeatures, adversarial_losses, edge_distance, outlier_penalty, psnr
from mgzoo_autoencoders.tae import Tae

SMALL = dict(
    widths=(16, 16, 32, 32), space_strides=(1, 2, 2), patch=2, groups=1, channels=8,
    encoder_blocks=(0, 1, 0, 1), decoder_blocks=(0, 1, 1, 0),
)


def build(task: dict | None = None, **changes) -> SimpleNamespace:
    torch.manual_seed(0)
    return SimpleNamespace(autoencoder=Tae(TaeConfig(**{**SMALL, **changes})), task=Reconstruct(ReconstructConfig(**(task or {}))))


def clip(seed: int, frames: int = 8, size: int = 16) -> Clip:
    """A bright square that moves over a coloured ground."""
    g = torch.Generator().manual_seed(seed)
    ground, square = torch.randint(0, 256, (2, 3), generator=g).to(torch.uint8)
    y, x = torch.randint(0, size - 6, (2,), generator=g).tolist()

    def load():
        video = ground.expand(frames, size, size, 3).clone()
        for f in range(frames):
            left = min(x + f // 2, size - 5)
            video[f, y : y + 5, left : left + 5] = square
        return video

    return Clip(key=str(seed), digest=str(seed), caption="", frames=frames, height=size, width=size, fps=8.0, load=load)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def opl_by_hand(z, r):
    """Equation 1 read literally: a loop over positions, in float64."""
    B, C, T, H, W = z.shape
    total = 0.0
    for b in range(B):
        for t in range(T):
            X = z[b, :, t].double()
            mean = [sum(X[c, i, j].item() for i in range(H) for j in range(W)) / (H * W) for c in range(C)]
            var = [sum((X[c, i, j].item() - mean[c]) ** 2 for i in range(H) for j in range(W)) / (H * W) for c in range(C)]
            limit = r * sum(var) ** 0.5
            for i in range(H):
                for j in range(W):
                    total += max(sum((X[c, i, j].item() - mean[c]) ** 2 for c in range(C)) ** 0.5 - limit, 0.0) / (H * W)
    return total / (B * T)


@pytest.mark.parametrize("r", [0.5, 1.0, 3.0])
def test_outlier_penalty_is_the_formula(r):
    z = torch.randn(2, 3, 2, 5, 4, generator=generator())
    z[0, :, 1, 2, 2] += 40.0
    assert outlier_penalty(z, r).item() == pytest.approx(opl_by_hand(z, r), rel=1e-5)


def test_outlier_penalty_pulls_at_outliers_only():
    z = torch.randn(1, 4, 1, 8, 8, generator=generator())
    assert outlier_penalty(z, 3.0) == 0
    z[0, :, 0, 3, 3] += 30
    z.requires_grad_()
    outlier_penalty(z).backward()
    assert z.grad[0, :, 0, 3, 3].min() > 0
    assert outlier_penalty(z.detach()[:, :, :, :3]) == 0, "a frame without the outlier is left alone"


def test_psnr_is_that_of_the_unit_range():
    media = torch.zeros(2, 3, 1, 4, 4)
    output = media.clone()
    output[0] += 0.2  # 0.1 of the unit range: 20 dB
    output[1] += 0.02  # 40 dB
    each, pooled = psnr(output, media)
    assert each == pytest.approx(30, abs=1e-4)
    assert pooled == pytest.approx(-10 * math.log10((1e-2 + 1e-4) / 2), abs=1e-4)


def test_edge_distance_ignores_a_constant_and_sees_detail():
    flat = torch.full((1, 3, 8, 8), 0.5)
    stripes = torch.ones(1, 3, 8, 8)
    stripes[..., ::2] = -1
    assert edge_distance(flat) == 0
    assert edge_distance(stripes).item() == pytest.approx(2 / 3)  # 2 at full size, nothing left at half and quarter


def test_media_survive_the_way_there_and_back():
    model = build()
    video = torch.randint(0, 256, (2, 3, 4, 4, 3), generator=generator()).to(torch.uint8)
    media = to_media(video, model.autoencoder)
    assert media.shape == (2, 3, 3, 4, 4) and media.min() >= -1 and media.max() <= 1
    assert torch.equal(to_uint8(media), video)


def test_clips_of_different_sizes_are_refused():
    model = build()
    with pytest.raises(MgzooError, match=r"different sizes .*\[\(4, 16, 16\), \(8, 16, 16\)\]"):
        model.task.prepare(model, [clip(0), clip(1, frames=4)])


def test_every_term_is_weighed_and_named():
    weights = dict(l1=1.0, mse=2.0, edges=3.0, kl=4.0, opl=5.0, opl_r=0.1)
    model = build(weights)
    loss = model.task.loss(model, model.task.prepare(model, [clip(0), clip(1)]), generator())
    assert set(loss.terms) == {"l1", "mse", "edges", "kl", "opl"}
    assert loss.total.item() == pytest.approx(sum(weights[name] * term.item() for name, term in loss.terms.items()), rel=1e-5)
    assert not any(term.requires_grad for term in loss.terms.values())


def test_kl_is_the_closed_form_per_media_element():
    model = build(dict(image_share=0.0))
    example = model.task.prepare(model, [clip(0)])
    mean, logvar = model.autoencoder.posterior(example.latents)
    posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
    want = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum() / example.latents.numel()
    assert model.task.loss(model, example, generator()).terms["kl"].item() == pytest.approx(want.item(), rel=1e-4)


def test_share_of_picture_steps():
    """A quarter of the steps sees one frame of each clip: the first convolution tells."""
    model = build(dict(image_share=0.25))
    example = model.task.prepare(model, [clip(0), clip(1)])
    seen = []
    model.autoencoder.encoder.stem.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    with torch.no_grad():
        for step in range(80):
            model.task.loss(model, example, generator(step))
    assert set(seen) == {1, 8} and 10 <= seen.count(1) <= 30


def test_loss_depends_on_the_generator_alone():
    model = build()
    example = model.task.prepare(model, [clip(0), clip(1)])
    a, b, c = (model.task.loss(model, example, generator(seed)).total.item() for seed in (1, 1, 2))
    assert a == b != c


def train(model, example, steps, lr=2e-3):
    parts = [getattr(model, name) for name in model.task.trained(model)]
    optimiser = torch.optim.AdamW([p for part in parts for p in part.parameters()], lr=lr)
    for step in range(steps):
        loss = model.task.loss(model, example, generator(step))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
    return loss


@pytest.mark.parametrize("extras", [{}, dict(shortcut=True, linear=True)])
def test_one_batch_is_learnt(extras):
    model = build(dict(mse=1.0, image_share=0.0), **extras)
    example = model.task.prepare(model, [clip(0), clip(1)])
    before = model.task.validate(model, example, generator())
    train(model, example, 60)
    after = model.task.validate(model, example, generator())
    assert after["loss"] < 0.5 * before["loss"] and after["psnr"] > before["psnr"] + 4 and after["psnr"] > 17


def test_gradients_reach_every_weight():
    model = build(dict(adversarial=0.1, discriminator_width=8, opl_r=0.1, edges=0.5), shortcut=True, linear=True)
    example = model.task.prepare(model, [clip(0), clip(1)])
    train(model, example, 2)  # a new model's last layers are zero and hold back the first step's gradients
    model.task.loss(model, example, generator(1)).total.backward()
    for part in (model.autoencoder, model.task):
        for name, p in part.named_parameters():
            assert p.grad is not None, name
            # While both hinges are active their pulls on the last bias cancel exactly.
            assert p.grad.abs().sum() > 0 or name == "discriminator.6.bias", name


def test_adversarial_term_trains_both_sides_in_one_backward():
    model = build(dict(adversarial=0.5, discriminator_width=8, image_share=0.0))
    assert list(model.task.trained(model)) == ["autoencoder", "task"] and list(build().task.trained(None)) == ["autoencoder"]
    example = model.task.prepare(model, [clip(0), clip(1)])
    output = model.autoencoder.decode(model.autoencoder.encode(example.latents), (8, 16, 16)).transpose(1, 2).flatten(0, 1)
    real = example.latents.transpose(1, 2).flatten(0, 1)
    generator_term, hinge = adversarial_losses(model.task.discriminator, output, real)
    net = model.task.discriminator
    assert generator_term.item() == pytest.approx(-net(output).mean().item(), rel=1e-4)
    generator_term.backward(retain_graph=True)
    assert all(p.grad is None for p in net.parameters()), "the generator's term leaves the discriminator alone"
    reached = [p for p in model.autoencoder.parameters() if p.grad is not None]
    before = [p.grad.clone() for p in reached]
    hinge.backward()
    assert reached and all(torch.equal(a, p.grad) for a, p in zip(before, reached)), "the hinge leaves the autoencoder alone"
    assert all(p.grad is not None for p in net.parameters())


def test_discriminator_learns_to_tell_them_apart():
    model = build(dict(adversarial=1e-6, discriminator_width=8, image_share=0.0))
    example = model.task.prepare(model, [clip(0), clip(1)])
    parts = model.task.trained(model)
    model.task.trained = lambda model: parts[1:]  # the autoencoder stays bad
    assert train(model, example, 40).terms["discriminator"] < 0.5


def test_perceptual_term_needs_and_uses_its_network(tmp_path):
    with pytest.raises(MgzooError, match="no feature network at"):
        PerceptualFeatures(tmp_path)
    g = generator()
    shapes = {"0.weight": (4, 3, 3, 3), "0.bias": (4,), "1.weight": (4, 4, 3, 3), "1.bias": (4,)}
    save_file({name: torch.randn(*shape, generator=g) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
    model = build(dict(perceptual=1.0, perceptual_weights=str(tmp_path)))
    loss = model.task.loss(model, model.task.prepare(model, [clip(0)]), generator())
    assert loss.terms["perceptual"] > 0 and not list(model.task.parameters()), "the frozen network is neither trained nor saved"
    loss.total.backward()
    picture = torch.rand(1, 3, 8, 8)
    assert model.task._features[0].distance(picture, picture) == 0


@pytest.mark.parametrize("weights", [None, "registry/tae"])
def test_starting_fits_the_linear_path_unless_weights_are_given(weights):
    model = build(linear=True)
    model.recipe = SimpleNamespace(parts={"autoencoder": SimpleNamespace(weights=weights)})
    before = model.autoencoder.blocks.analysis.weight.clone()
    model.task.start(model, [model.task.prepare(model, [clip(i) for i in range(8)])])
    assert torch.equal(model.autoencoder.blocks.analysis.weight, before) == (weights is not None)


def test_finishing_normalises_the_latents():
    model = build()
    examples = [model.task.prepare(model, [clip(2 * i), clip(2 * i + 1)]) for i in range(4)]
    model.task.finish(model, iter(examples))
    with torch.no_grad():
        latents = torch.cat([model.autoencoder.encode(example.latents) for example in examples]).movedim(1, 0).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(1, unbiased=False), torch.ones(8), atol=1e-3, rtol=0)


def test_a_video_passes_through():
    model = build(linear=True)
    video = clip(0, frames=5, size=20).load()
    media = model.task.generate(model, video=video, fps=8.0)
    assert media.video.shape == video.shape and media.video.dtype == torch.uint8 and media.fps == 8.0
    with pytest.raises(MgzooError, match="needs a video uint8"):
        model.task.generate(model, video=video.float())
