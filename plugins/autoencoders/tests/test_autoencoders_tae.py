"""The temporal autoencoder: shapes, inflation, tiling, memory, normalisation."""

import dataclasses
import functools
import math

import pytest
import torch

from mgzoo.parts import Autoencoder
from mgzoo.spec import MgzooError
from mgzoo_autoencoders.configs import FramewiseConfig, TaeConfig
from mgzoo_autoencoders.tae import Tae, inflate
from mgzoo_autoencoders.tae_block_transform import BlockTransform, dct_basis
from mgzoo_autoencoders.tae_convolutions import Conv, TemporalConv, VolumeConv
from mgzoo_autoencoders.tae_decoder import STREAM_ABOVE
from mgzoo_autoencoders.tae_layers import Norm
from mgzoo_autoencoders.tae_resampling import from_channels, to_channels
from mgzoo_autoencoders.tae_tiling import tile_weights, tiles

SMALL = dict(
    widths=(8, 8, 16, 16), space_strides=(1, 2, 2), patch=2, groups=4, channels=4,
    encoder_blocks=(0, 1, 0, 1), decoder_blocks=(1, 0, 1, 0),
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def shaken(model: torch.nn.Module, scale: float = 0.1) -> torch.nn.Module:
    """Every weight moved, so that no test rests on a fresh model's zeros and identities."""
    for p in model.parameters():
        p.add_(scale * torch.randn_like(p))
    return model


def tae(**changes) -> Tae:
    return shaken(Tae(TaeConfig(**{**SMALL, **changes}))).eval()


def tae_with(model: Tae, **changes) -> Tae:
    """The same weights under other settings of tiles."""
    other = Tae(dataclasses.replace(model.config, **changes)).eval()
    other.load_state_dict(model.state_dict())
    return other


def video(frames: int, height: int = 16, width: int = 16, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, frames, height, width) * 2 - 1


VARIANTS = [{}, dict(shortcut=True, linear=True), dict(temporal="3d"), dict(temporal="3d", shortcut=True)]


@pytest.mark.parametrize("extras", VARIANTS)
@pytest.mark.parametrize("frames", [1, 2, 5, 8, 9, 16, 33])
@pytest.mark.parametrize("size", [(16, 16), (17, 30)])
def test_any_number_of_frames_and_any_size(frames, size, extras):
    model, media = tae(**extras), video(frames, *size)
    latents = model.encode(media)
    assert latents.shape == (1, 4, math.ceil(frames / 8), *(math.ceil(s / 8) for s in size)) == (1, 4, *model.spec.axes(frames, *size))
    output = model.decode(latents, media.shape[2:])
    assert output.shape == media.shape and output.dtype == torch.float32 and output.isfinite().all()


def test_it_is_an_autoencoder():
    assert isinstance(tae(), Autoencoder)


def test_bf16_runs_and_gives_float32():
    model, media = tae(shortcut=True, linear=True), video(9)
    exact = model.encode(media)
    model = model.bfloat16()
    latents = model.encode(media)
    assert latents.dtype == torch.float32 and (latents - exact).norm() < 0.05 * exact.norm()
    assert model.decode(latents, (9, 16, 16)).dtype == torch.float32


def test_temporal_convolution_pads_both_ends_with_the_outer_frames():
    conv, x = shaken(TemporalConv(3), 1.0), torch.randn(2, 5, 1, 1, 3)
    taps = conv.weight.squeeze(-1).permute(2, 0, 1)
    for t in range(5):
        want = sum(x[:, min(max(t + k - 1, 0), 4), 0, 0] @ taps[k].T for k in range(3)) + conv.bias
        torch.testing.assert_close(conv(x)[:, t, 0, 0], want)


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 9])
def test_temporal_stride_centres_on_even_frames_and_rounds_up(frames):
    x = torch.randn(1, frames, 2, 2, 4)
    assert torch.equal(TemporalConv(4, stride=2)(x), x[:, ::2])
    assert torch.equal(TemporalConv(4, up=2)(x), x.repeat_interleave(2, dim=1))


def test_one_frame_is_convolved_as_if_repeated():
    conv, x = shaken(TemporalConv(4), 1.0), torch.randn(2, 1, 3, 3, 4)
    torch.testing.assert_close(conv(x), conv(x.expand(-1, 3, -1, -1, -1))[:, :1])


def test_full_convolution_pads_zeros_in_space_and_outer_frames_in_time():
    conv, x = shaken(VolumeConv(3, 5), 1.0), torch.randn(2, 4, 5, 6, 3)
    padded = torch.cat([x[:, :1], x, x[:, -1:]], dim=1)
    want = torch.nn.functional.conv3d(padded.movedim(-1, 1), conv.weight, conv.bias, padding=(0, 1, 1)).movedim(1, -1)
    torch.testing.assert_close(conv(x), want)
    torch.testing.assert_close(conv(x[:, :1]), conv(x[:, :1].expand(-1, 3, -1, -1, -1))[:, :1])


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("how", [{}] + [{name: pair} for name in ("stride", "up") for pair in ((2, 2), (2, 1), (1, 2))], ids=str)
def test_full_convolution_starts_as_the_pair_does(frames, how):
    """The same strides, upsampling and padding as the 2.5-D pair: with the pair's spatial weights on the centre tap it is the pair."""
    full, pair, x = VolumeConv(4, 6, **how), Conv(4, 6, **how), torch.randn(2, frames, 5, 6, 4)
    full.bias.copy_(pair.spatial.bias)
    full.weight[:, :, 1].copy_(pair.spatial.weight)
    assert full.weight[:, :, ::2].abs().max() == 0
    torch.testing.assert_close(full(x), pair(x))
    if "up" in how:
        torch.testing.assert_close(full(x, max(1, frames)), pair(x)[:, : max(1, frames)])


def test_folding_into_channels_is_undone_by_unfolding():
    x = torch.randn(2, 4, 6, 8, 3)
    folded = to_channels(x, 2, 3, 4)
    assert folded.shape == (2, 2, 2, 2, 72) and torch.equal(from_channels(folded, 2, 3, 4), x)
    assert torch.equal(to_channels(x[:, :3], 2, 1, 1), to_channels(x[:, [0, 1, 2, 2]], 2, 1, 1))


def test_norm_sees_one_frame_only():
    norm, x = Norm(8, TaeConfig(**SMALL)), torch.randn(2, 3, 4, 4, 8)
    alone = norm(x[:, 1:2])
    x[:, [0, 2]] *= 100
    torch.testing.assert_close(norm(x)[:, 1:2], alone)
    groups = norm(x)[0, 0].reshape(16, 4, 2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(groups.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(groups.std(1, unbiased=False), torch.ones(4), atol=1e-3, rtol=0)


def framewise(**changes) -> Tae:
    config = FramewiseConfig(**{**SMALL, **changes})
    return shaken(Tae(config)).eval()


@pytest.mark.parametrize("temporal", ["2.5d", "3d"])
@pytest.mark.parametrize("extras", [{}, dict(shortcut=True)])
def test_inflation_equals_the_image_autoencoder_on_one_frame(extras, temporal):
    strides = (1, 2, 2) if extras else (2, 2, 2)
    image = framewise(**extras)
    model = inflate(image, TaeConfig(**{**SMALL, **extras}, time_strides=strides, temporal=temporal))
    picture = video(1, batch=2)
    latents = image.encode(picture)
    assert torch.equal(model.encode(picture), latents)
    assert torch.equal(model.decode(latents, (1, 16, 16)), image.decode(latents, (1, 16, 16)))
    shaken(model)
    assert not torch.equal(model.encode(picture), latents)


def test_inflation_with_a_block_transform_equals_it_to_rounding():
    image = framewise(linear=True)
    model = inflate(image, TaeConfig(**SMALL, linear=True))
    picture = video(1)
    latents = image.encode(picture)
    torch.testing.assert_close(model.encode(picture), latents, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.decode(latents, (1, 16, 16)), image.decode(latents, (1, 16, 16)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("temporal", ["2.5d", "3d"])
def test_inflation_of_a_video_takes_every_eighth_frame_and_repeats_its_picture(temporal):
    image = framewise()
    model, media = inflate(image, TaeConfig(**SMALL, temporal=temporal)), video(16)
    latents = model.encode(media)
    torch.testing.assert_close(latents, image.encode(media[:, :, ::8]))
    torch.testing.assert_close(model.decode(latents, (16, 16, 16)), image.decode(latents, (2, 16, 16)).repeat_interleave(8, dim=2))


def test_inflation_without_temporal_stride_is_framewise():
    image = framewise()
    model, media = inflate(image, TaeConfig(**SMALL, time_strides=(1, 1, 1))), video(5)
    torch.testing.assert_close(model.encode(media), image.encode(media))


def test_inflation_of_another_network_is_refused():
    with pytest.raises(MgzooError, match="cannot inflate: attention, channels differ"):
        inflate(framewise(), TaeConfig(**{**SMALL, "channels": 8}, attention=False))
    widths = dict(widths=(8, 16, 16, 16), shortcut=True)
    with pytest.raises(MgzooError, match="shortcuts that turn channels into frames"):
        inflate(framewise(**widths), TaeConfig(**{**SMALL, **widths}))


def test_encoder_tiles_are_encoded_apart():
    model, media = tae(), video(40)
    want = torch.cat([model.encode(media[:, :, :32]), model.encode(media[:, :, 32:])], dim=2)
    assert torch.equal(model.encode(media), want)
    whole = model.normalise(model.posterior(media)[0])
    assert torch.equal(model.encode(media[:, :, :32]), model.normalise(model.posterior(media[:, :, :32])[0]))
    assert not torch.allclose(model.encode(media), whole)


def test_decoder_tiles_blend_linearly():
    model, latents = tae(), torch.randn(1, 4, 8, 2, 2)
    tiles = [model.decode(latents[:, :, a : a + 4], (32, 16, 16)) for a in (0, 2, 4)]
    output = model.decode(latents, (64, 16, 16))
    assert torch.equal(output[:, :, :16], tiles[0][:, :, :16]) and torch.equal(output[:, :, 48:], tiles[2][:, :, 16:])
    for second, first in ((1, 16), (2, 32)):
        for j in range(16):
            w = 1 - (j + 0.5) / 16
            want = w * tiles[second - 1][:, :, 16 + j] + (1 - w) * tiles[second][:, :, j]
            torch.testing.assert_close(output[:, :, first + j], want)


@pytest.mark.parametrize("frames", [33, 40, 41, 47, 48, 56, 57])
def test_still_latents_are_tiled_without_a_trace(frames):
    """Where nothing changes in time, the tiled result equals the untiled one, whatever the length of the last tile."""
    model = tae(shortcut=True, linear=True, attention=False)
    latents = torch.randn(1, 4, 1, 2, 2).expand(-1, -1, math.ceil(frames / 8), -1, -1)
    tiled = model.decode(latents, (frames, 16, 16))
    middle = model.pixels(model.denormalise(latents[:, :, :4]))[:, :, 8:24, :16, :16]
    assert tiled.shape[2] == frames
    torch.testing.assert_close(tiled[:, :, 16:24], middle[:, :, 8:16], atol=1e-4, rtol=1e-4)
    untiled = model.pixels(model.denormalise(latents), frames)[..., :16, :16]
    torch.testing.assert_close(tiled[:, :, :24], untiled[:, :, :24], atol=1e-4, rtol=1e-4)


SHORT_SIGHTED = dict(
    widths=(8, 8), time_strides=(2,), space_strides=(2,), patch=1, encoder_blocks=(0, 1), decoder_blocks=(1, 0),
    norm="rms", attention=False,
)  # sees 8 latents = 16 pixels in each direction, a quarter of the default overlap


@pytest.mark.parametrize("temporal", ["2.5d", "3d"])
@pytest.mark.parametrize("size", [(1, 40, 333), (3, 201, 35), (2, 131, 150)])
def test_tiles_in_space_leave_no_trace_where_the_network_sees_no_further_than_their_overlap(size, temporal):
    model = tae(**SHORT_SIGHTED, temporal=temporal)
    tiled = tae_with(model, tile_height=128, tile_width=128)
    media = video(*size)
    latents = model.encode(media)
    torch.testing.assert_close(tiled.encode(media), latents, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tiled.decode(latents, size), model.decode(latents, size), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("overlap", [0, 16])
def test_tiles_in_space_leave_a_trace_where_the_network_sees_further(overlap):
    model = tae(**SHORT_SIGHTED)
    tiled = tae_with(model, tile_width=128, tile_space_overlap=overlap)
    latents, size = torch.randn(1, 4, 1, 8, 128 - overlap // 2), (1, 16, 256 - overlap)
    difference = (tiled.decode(latents, size) - model.decode(latents, size)).abs().amax((0, 1, 2, 3))
    middle = slice(112 - overlap // 2, 144 - overlap // 2)
    assert difference[middle].max() > 1e-3
    difference[middle] = 0
    assert difference.max() < 1e-5, "the trace is where the tiles meet"


def test_a_network_with_statistics_over_the_frame_is_tiled_closely():
    model = tae(**{**SHORT_SIGHTED, "norm": "group"})
    media = video(2, 40, 333)
    latents = model.encode(media)
    tiled, whole = (m.decode(latents, (2, 40, 333)) for m in (tae_with(model, tile_width=128), model))
    assert tiled.shape == whole.shape and not torch.allclose(tiled, whole)
    assert (tiled - whole).norm() < 0.2 * whole.norm()


@pytest.mark.parametrize("size", [(1, 128, 128), (9, 57, 128), (40, 16, 16)])
def test_what_fits_into_a_tile_is_not_tiled(size):
    model = tae(shortcut=True)
    tiled = tae_with(model, tile_height=128, tile_width=128)
    media = video(*size)
    latents = model.encode(media)
    assert torch.equal(tiled.encode(media), latents)
    assert torch.equal(tiled.decode(latents, size), model.decode(latents, size))


def test_tiles_in_time_and_space():
    model = tae(**SHORT_SIGHTED, tile_frames=4, tile_overlap=2)
    tiled = tae_with(model, tile_height=128, tile_width=128)
    media = video(11, 35, 201)
    latents = model.encode(media)
    torch.testing.assert_close(tiled.encode(media), latents, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tiled.decode(latents, (11, 35, 201)), model.decode(latents, (11, 35, 201)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tile, overlap", [(8, 4), (8, 0), (7, 3), (12, 1)])
@pytest.mark.parametrize("scale", [1, 8])
def test_weights_of_tiles_add_up_to_one(tile, overlap, scale):
    for length in range(1, 60):
        spans = tiles(length, tile, overlap)
        total = torch.zeros(length * scale)
        for span, weight in zip(spans, tile_weights(spans, overlap, scale)):
            assert span.stop - span.start == min(tile, length) and span.stop <= length
            total[span.start * scale : span.stop * scale] += weight
            edge = overlap * scale // 4
            if edge and span is not spans[0]:
                assert weight[:edge].max() == 0
            if edge and span is not spans[-1]:
                assert weight[-edge:].max() == 0
        torch.testing.assert_close(total, torch.ones_like(total))
        assert all(a.stop - b.start >= overlap for a, b in zip(spans, spans[1:]))


@pytest.mark.parametrize("extras", VARIANTS + [dict(temporal="2d", time_strides=(1, 1, 1)), dict(norm="rms", attention=False)])
@pytest.mark.parametrize("frames", [1, 2, 9, 17])
def test_a_video_decoded_picture_by_picture_is_the_one_decoded_at_once(frames, extras, monkeypatch):
    model = tae(**extras)
    latents = torch.randn(2, 4, *model.spec.axes(frames, 24, 16))
    once = model.decode(latents, (frames, 24, 16))
    monkeypatch.setitem(STREAM_ABOVE, "cpu", 0)
    torch.testing.assert_close(model.decode(latents, (frames, 24, 16)), once, atol=1e-4, rtol=1e-4)
    with torch.enable_grad():
        assert torch.equal(model.decode(latents, (frames, 24, 16)), once), "training takes the other way"


def test_weights_that_are_whole_inside_their_own_layer_only(monkeypatch):
    """As ZeRO stage 3 keeps them while a training validates."""
    monkeypatch.setitem(STREAM_ABOVE, "cpu", 0)
    model, latents = tae(shortcut=True, linear=True), torch.randn(1, 4, 2, 2, 2)
    with torch.enable_grad():
        want = model.decode(latents, (9, 16, 16))
    for module in model.modules():
        whole = {name: p.data for name, p in module.named_parameters(recurse=False)}

        def put(module, *_, whole):
            for name, data in whole.items():
                getattr(module, name).data = data

        nothing = {name: torch.empty(0) for name in whole}
        module.register_forward_pre_hook(functools.partial(put, whole=whole))
        module.register_forward_hook(functools.partial(put, whole=nothing))
        put(module, whole=nothing)
    assert torch.equal(model.decode(latents, (9, 16, 16)), want)


def test_pictures_come_while_the_video_is_being_read(monkeypatch):
    """The first picture needs a few of the frames below, not all: what makes memory flat."""
    monkeypatch.setitem(STREAM_ABOVE, "cpu", 0)
    model = tae(time_strides=(1, 1, 1), attention=False)
    read = []
    pictures = (read.append(f) or torch.randn(1, 1, 2, 2, 16) for f in range(100))
    for stage in list(model.decoder.stages)[2:]:
        pictures = stage.stream(pictures)
    next(pictures)
    assert 1 < len(read) < 12
    assert len(list(pictures)) == 99 and len(read) == 100


def test_upsampling_inside_a_convolution_is_upsampling_before_it():
    conv, x = Conv(4, 6, up=(1, 2), temporal=False), torch.randn(2, 1, 5, 7, 4)
    torch.testing.assert_close(next(conv.stream(iter([x]))), conv(x), atol=1e-5, rtol=1e-5)
    repeating = TemporalConv(4, up=2)
    shaken(repeating)
    x = torch.randn(2, 3, 5, 7, 4)
    torch.testing.assert_close(torch.cat(list(repeating.stream(iter(x.split(1, dim=1)))), dim=1), repeating(x), atol=1e-5, rtol=1e-5)


def peak_elements(model: Tae, run) -> int:
    """Largest activation of any layer while `run` runs."""
    largest = 0

    def see(module, inputs, output):
        nonlocal largest
        largest = max(largest, output.numel())

    hooks = [m.register_forward_hook(see) for m in model.modules() if not list(m.children())]
    run()
    for hook in hooks:
        hook.remove()
    return largest


def test_memory_is_flat_in_the_number_of_frames():
    model = tae()
    encode = [peak_elements(model, lambda: model.encode(video(f))) for f in (32, 64, 160)]
    decode = [peak_elements(model, lambda: model.decode(torch.randn(1, 4, f // 8, 2, 2), (f, 16, 16))) for f in (32, 64, 160)]
    assert len(set(encode)) == 1 and len(set(decode)) == 1
    untiled = tae(tile_frames=160, tile_overlap=0)
    assert peak_elements(untiled, lambda: untiled.encode(video(160))) == 5 * encode[0]


def test_a_picture_costs_one_frame():
    model = tae(shortcut=True)
    assert peak_elements(model, lambda: model.decode(torch.randn(1, 4, 1, 2, 2), (1, 16, 16))) * 8 == peak_elements(
        model, lambda: model.decode(torch.randn(1, 4, 1, 2, 2), (8, 16, 16))
    )


def test_normalisation_is_calibrated_saved_and_undone():
    model = tae()
    batches = [3 * torch.randn(2, 4, 2, 3, 3) + torch.arange(4.0)[:, None, None, None] for _ in range(3)]
    model.calibrate(batches)
    everything = model.normalise(torch.cat(batches))
    flat = everything.movedim(1, 0).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.std(1, unbiased=False), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.denormalise(everything), torch.cat(batches), atol=1e-4, rtol=1e-4)
    other = Tae(model.config)
    other.load_state_dict(model.state_dict())
    media = video(8)
    assert torch.equal(other.encode(media), model.encode(media))
    before = model.decode(model.encode(media), (8, 16, 16))
    model.latent_mean.zero_(), model.latent_std.fill_(1.0)
    torch.testing.assert_close(model.decode(model.encode(media), (8, 16, 16)), before, atol=1e-4, rtol=1e-4)


def test_posterior_variance_is_clamped():
    model = tae()
    model.encoder.head.spatial.bias[4:] = 1e4
    assert model.posterior(video(8))[1].max() == 20
    model.encoder.head.spatial.bias[4:] = -1e4
    assert model.posterior(video(8))[1].min() == -30


def test_block_transform_starts_as_an_orthonormal_codec():
    basis, deviation = dct_basis(3, 4, 4)
    torch.testing.assert_close(basis @ basis.T, torch.eye(192), atol=1e-5, rtol=0)
    assert deviation.argmax() == 0
    flat = torch.full((1, 4, 8, 8, 3), 0.7)
    for channels in (1, 5):
        codec = BlockTransform(channels, 3, 4, 4)
        torch.testing.assert_close(codec.synthesise(codec.analyse(flat)), flat)
    everything = BlockTransform(192, 3, 4, 4)
    media = torch.rand(1, 4, 8, 8, 3)
    torch.testing.assert_close(everything.synthesise(everything.analyse(media)), media, atol=1e-4, rtol=0)


def test_a_new_linear_model_is_the_codec_alone():
    model = Tae(TaeConfig(**SMALL, linear=True))
    media = video(8)
    codec = model.blocks.synthesise(model.blocks.analyse(media.permute(0, 2, 3, 4, 1))).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(model.decode(model.encode(media), (8, 16, 16)), codec)


def test_fitting_gives_the_best_linear_codec():
    """No other codec of as many coefficients is nearer to the blocks it was fitted to; the DCT is the counter-example."""
    model = Tae(TaeConfig(**SMALL, linear=True))
    media = (torch.randn(64, 2, 1) @ torch.randn(64, 1, 3 * 8 * 8 * 8 // 2)).reshape(64, 3, 8, 8, 8)
    media = media[:4].repeat(16, 1, 1, 1, 1) * torch.rand(64, 1, 1, 1, 1)  # four directions only
    before = (model.decode(model.encode(media), (8, 8, 8)) - media).square().mean()
    model.fit(iter([media[:32], media[32:]]))
    after = (model.decode(model.encode(media), (8, 8, 8)) - media).square().mean()
    assert after < 1e-6 * media.square().mean() < before
    torch.testing.assert_close(model.encode(media).square().mean((0, 2, 3, 4)), torch.ones(4), atol=1e-2, rtol=0)


def test_settings_of_tiles_do_not_belong_to_the_weights():
    model = tae()
    other = Tae(dataclasses.replace(model.config, tile_frames=16, tile_overlap=8))
    other.load_state_dict(model.state_dict())
    media = video(16)
    assert torch.equal(other.encode(media), model.encode(media))
