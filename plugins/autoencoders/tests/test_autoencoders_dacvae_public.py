"""Public DAC-VAE weights: tiny random ones in the real layouts, against a small computation of its own."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import mgzoo
from mgzoo.spec import MgzooError
from mgzoo_autoencoders import dacvae_public

RATES, DIM, LATENT, CHANNELS, DECODER = (2, 3), 4, 6, 5, 16


def random(*shape: int) -> torch.Tensor:
    return 0.5 * torch.randn(*shape, generator=random.draw)


def conv(tensors: dict, name: str, c_out: int, c_in: int, taps: int, first: int | None = None) -> None:
    tensors[f"{name}.weight_v"], tensors[f"{name}.weight_g"] = random(c_out, c_in, taps), random(c_out, 1, 1)
    tensors[f"{name}.bias"] = random(first or c_out)


def snake(tensors: dict, name: str, channels: int) -> None:
    tensors[f"{name}.alpha"] = 0.5 + torch.rand(1, channels, 1, generator=random.draw)


def unit(tensors: dict, name: str, width: int) -> None:
    snake(tensors, f"{name}.block.0", width)
    conv(tensors, f"{name}.block.1", width, width, 7)
    snake(tensors, f"{name}.block.2", width)
    conv(tensors, f"{name}.block.3", width, width, 1)


def public(watermarked: bool) -> dict[str, torch.Tensor]:
    """A file as it is published; the released one has a watermarking network between the decoder's layers."""
    random.draw, tensors, width = torch.Generator().manual_seed(0), {}, DIM
    conv(tensors, "encoder.block.0", width, 1, 7)
    for level, rate in enumerate(RATES, 1):
        for i in range(3):
            unit(tensors, f"encoder.block.{level}.block.{i}", width)
        snake(tensors, f"encoder.block.{level}.block.3", width)
        conv(tensors, f"encoder.block.{level}.block.4", 2 * width, width, 2 * rate)
        width *= 2
    snake(tensors, "encoder.block.3", width)
    conv(tensors, "encoder.block.4", LATENT, width, 3)
    conv(tensors, "quantizer.in_proj", 2 * CHANNELS, LATENT, 1)
    conv(tensors, "quantizer.out_proj", LATENT, CHANNELS, 1)
    width = DECODER
    conv(tensors, "decoder.model.0", width, LATENT, 7)
    for level, rate in enumerate(reversed(RATES), 1):
        name, places = f"decoder.model.{level}.block", (4, 5, 8) if watermarked else (2, 3, 4)
        snake(tensors, f"{name}.0", width)
        conv(tensors, f"{name}.1", width, width // 2, 2 * rate, first=width // 2)
        for place in places:
            unit(tensors, f"{name}.{place}", width // 2)
        if watermarked:
            for key in ("3.weight", "6.block.1.weight", "7.block.1.bias", "11.weight"):
                tensors[f"{name}.{key}"] = random(3, 2, 1)
        width //= 2
    last = "decoder.wm_model.encoder_block.pre.{}" if watermarked else "decoder.model.{}"
    first = 0 if watermarked else 3
    snake(tensors, last.format(first), width)
    conv(tensors, last.format(first + 1), 1, width, 7)
    if watermarked:
        for key in ("encoder_block.pre.3.weight", "encoder_block.post.0.lstm.weight_ih_l0", "msg_processor.msg_processor.weight", "decoder_block.pre.0.bias"):
            tensors[f"decoder.wm_model.{key}"] = random(3, 2)
    return tensors


class Plain:
    """The published forward pass, written down once more over plain tensors."""

    def __init__(self, tensors: dict[str, torch.Tensor]):
        self.t = tensors

    def conv(self, x, name, stride=1, dilation=1):
        v = self.t[f"{name}.weight_v"]
        weight = self.t[f"{name}.weight_g"] * v / v.pow(2).sum((1, 2), keepdim=True).sqrt()
        pad = (v.shape[2] - 1) * dilation // 2 if stride == 1 else -(-stride // 2)
        return F.conv1d(x, weight, self.t[f"{name}.bias"], stride=stride, padding=pad, dilation=dilation)

    def up(self, x, name, stride):
        v = self.t[f"{name}.weight_v"]
        weight = self.t[f"{name}.weight_g"] * v / v.pow(2).sum((1, 2), keepdim=True).sqrt()
        whole = F.conv_transpose1d(x, weight, self.t[f"{name}.bias"], stride=stride)
        begin = -(-stride // 2)
        return whole[..., begin : begin + x.shape[-1] * stride]

    def snake(self, x, name):
        alpha = self.t[f"{name}.alpha"]
        return x + torch.sin(alpha * x).pow(2) / alpha

    def unit(self, x, name, dilation):
        y = self.conv(self.snake(x, f"{name}.block.0"), f"{name}.block.1", dilation=dilation)
        return x + self.conv(self.snake(y, f"{name}.block.2"), f"{name}.block.3")

    def encode(self, x):
        x = self.conv(x, "encoder.block.0")
        for level, rate in enumerate(RATES, 1):
            for i, dilation in enumerate((1, 3, 9)):
                x = self.unit(x, f"encoder.block.{level}.block.{i}", dilation)
            x = self.conv(self.snake(x, f"encoder.block.{level}.block.3"), f"encoder.block.{level}.block.4", stride=rate)
        x = self.conv(self.snake(x, "encoder.block.3"), "encoder.block.4")
        mean, scale = self.conv(x, "quantizer.in_proj").chunk(2, 1)
        return mean, torch.log(1 + scale.exp()) + 1e-4

    def decode(self, z):
        x, watermarked = self.conv(self.conv(z, "quantizer.out_proj"), "decoder.model.0"), "decoder.model.1.block.8.block.0.alpha" in self.t
        for level, rate in enumerate(reversed(RATES), 1):
            name = f"decoder.model.{level}.block"
            x = self.up(self.snake(x, f"{name}.0"), f"{name}.1", rate)
            for place, dilation in zip((4, 5, 8) if watermarked else (2, 3, 4), (1, 3, 9)):
                x = self.unit(x, f"{name}.{place}", dilation)
        last = ("decoder.wm_model.encoder_block.pre.0", "decoder.wm_model.encoder_block.pre.1") if watermarked else ("decoder.model.3", "decoder.model.4")
        return torch.tanh(self.conv(self.snake(x, last[0]), last[1]))


def as_parametrizations(tensors):
    """Weight norm as newer torch writes it."""
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return {next((name.replace(old, new) for old, new in names.items() if name.endswith(old)), name): value for name, value in tensors.items()}


@pytest.mark.parametrize("watermarked", [False, True], ids=["dac", "released"])
@pytest.mark.parametrize("written", [dict, as_parametrizations], ids=["weight_g", "parametrizations"])
@torch.no_grad()
def test_public_weights_give_what_their_own_formulas_give(tmp_path, watermarked, written):
    tensors = public(watermarked)
    save_file(written(tensors), tmp_path / "weights.safetensors")
    part, plain = dacvae_public.load(tmp_path / "weights.safetensors"), Plain(tensors)
    config = part.config
    assert (config.rates, config.encoder_dim, config.latent_dim, config.channels, config.decoder_dim) == (RATES, DIM, LATENT, CHANNELS, DECODER)
    media = 0.4 * torch.randn(2, 1, 60, generator=torch.Generator().manual_seed(1))
    mean, deviation = plain.encode(media)
    found = part.posterior(media)
    assert torch.allclose(found[0], mean, atol=1e-4) and torch.allclose(found[1], deviation, atol=1e-4)
    assert torch.allclose(part.sound(mean), plain.decode(mean), atol=1e-4)


def test_converted_weights_are_an_artifact_that_a_recipe_can_name(tmp_path):
    save_file(public(True), tmp_path / "weights.safetensors")
    folder = dacvae_public.convert(tmp_path / "weights.safetensors", tmp_path / "artifact", space="test", license="mit")
    part = mgzoo.load(folder).autoencoder
    wanted = dacvae_public.load(tmp_path / "weights.safetensors", space="test")
    assert part.config == wanted.config
    assert all(torch.equal(value, part.state_dict()[name]) for name, value in wanted.state_dict().items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("encoder.block.1.block.0.block.1.bias"), "1 missing and 0 unexpected tensors"),
        (lambda t: t.update(extra=torch.zeros(1)), "0 missing and 1 unexpected tensors"),
        (lambda t: t.update({"quantizer.in_proj.bias": torch.zeros(3)}), "do not match a DAC-VAE"),
        (lambda t: t.update({"quantizer.quantizers.0.codebook.weight": torch.zeros(3)}), "vector quantiser"),
        (lambda t: t.pop("quantizer.out_proj.weight_v"), "do not match a DAC-VAE"),
    ],
)
def test_other_weights_are_refused(tmp_path, change, said):
    tensors = public(False)
    change(tensors)
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(MgzooError, match=said):
        dacvae_public.load(tmp_path / "weights.safetensors")


def test_pickles_and_damaged_files_are_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(MgzooError, match="is not a safetensors file"):
        dacvae_public.load(tmp_path / "weights.pth")
    with pytest.raises(MgzooError, match="cannot be read"):
        dacvae_public.load(tmp_path / "weights.safetensors")
