"""Sound as tensors: each function against a formula, a published value or a counter-example."""

import math
import sys

import av
import numpy
import pytest
import torch
from PIL import Image

from mgzoo import media
from mgzoo.media import Media
from mgzoo.media.audio import mono, resample, slice_padded, validate_audio
from mgzoo.media.decode import read_audio
from mgzoo.media.spectrogram import draw_spectrogram, mel_filters, mel_spectrogram, stft_magnitude
from mgzoo.spec import MgzooError


def sine(hertz: float, seconds: float = 1.0, rate: int = 48_000, level: float = 1.0, channels: int = 1) -> torch.Tensor:
    return (level * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)).repeat(channels, 1)


def pitch(audio: torch.Tensor, rate: int) -> float:
    window = torch.hann_window(audio.shape[-1])
    return torch.fft.rfft(audio[0] * window).abs().argmax().item() * rate / audio.shape[-1]


# ---------------------------------------------------------------------------------------------------- rates


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 44_101, 96_000, 192_000])
def test_resampling_keeps_length_time_and_tone(rate):
    audio = sine(1000, 0.5, rate, 0.5)
    found = resample(audio, rate, 48_000)
    assert found.shape == (1, round(audio.shape[1] * 48_000 / rate))
    wanted = sine(1000, 0.5, 48_000, 0.5)[:, : found.shape[1]]
    middle = slice(2000, -2000)
    assert (found[:, middle] - wanted[:, middle]).abs().max() < 0.01  # neither moved in time nor changed in level


def test_resampling_lets_nothing_fold_back():
    high = sine(20_000, 0.5, 48_000)
    assert resample(high, 48_000, 16_000)[:, 500:-500].abs().max() < 0.01
    assert resample(sine(3000, 0.5), 48_000, 16_000)[:, 500:-500].abs().max() > 0.95


def test_resampling_of_little_and_nothing():
    assert resample(torch.zeros(2, 0), 8_000, 48_000).shape == (2, 0)
    assert resample(torch.zeros(2, 1), 8_000, 48_000).shape == (2, 6)
    audio = torch.rand(2, 100)
    assert torch.equal(resample(audio, 48_000, 48_000), audio)
    with pytest.raises(MgzooError, match="cannot resample from 0"):
        resample(audio, 0, 48_000)


def test_mono_leaves_out_the_low_frequency_channel():
    assert torch.allclose(mono(torch.tensor([[1.0], [0.0]])), torch.tensor([[0.5]]))
    surround = torch.zeros(6, 4)
    surround[3] = 1.0
    assert not mono(surround).any()
    surround[2] = 1.0
    assert torch.allclose(mono(surround), torch.full((1, 4), 0.5**0.5))


def test_cut_pads_with_silence_on_either_side():
    audio = torch.arange(1.0, 6.0)[None]
    assert slice_padded(audio, 1, 3).tolist() == [[2, 3, 4]]
    assert slice_padded(audio, 3, 4).tolist() == [[4, 5, 0, 0]]
    assert slice_padded(audio, -2, 4).tolist() == [[0, 0, 1, 2]]
    assert slice_padded(audio, 9, 2).tolist() == [[0, 0]]
    assert slice_padded(audio, -5, 3).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        (None, "the file has no sound"),
        (torch.zeros(1, 0), "empty"),
        (torch.zeros(1, 9), "silent"),
        (torch.tensor([[0.1, math.nan]]), "non-finite"),
        (torch.tensor([[0.1, math.inf]]), "non-finite"),
        (torch.tensor([[0.1, 3.0]]), "a peak of 3"),
    ],
)
def test_sound_that_no_model_may_take(audio, said):
    with pytest.raises(MgzooError, match=said):
        validate_audio(audio, 48_000, origin="x.wav")


def test_sound_a_little_too_loud_is_clipped():
    assert validate_audio(torch.tensor([[0.5, 1.005]]), 48_000, origin="x").tolist() == [[0.5, 1.0]]
    assert not validate_audio(torch.zeros(1, 9), 48_000, origin="x", silent=True).any()


# ---------------------------------------------------------------------------------------------------- files


def write(path, audio: torch.Tensor, rate: int, layout: str, codec: str = "flac") -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        pcm = (audio * 32767).round().short().T.reshape(1, -1).contiguous().numpy()
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=layout)
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


@pytest.mark.parametrize(("rate", "layout", "channels"), [(8_000, "mono", 1), (192_000, "stereo", 2), (48_000, "5.1", 6)])
def test_reading_any_rate_and_layout(tmp_path, rate, layout, channels):
    audio = torch.stack([sine(200 + 100 * i, 0.2, rate, 0.5)[0] for i in range(channels)])
    write(tmp_path / "x.wav", audio, rate, layout, "pcm_s16le")
    found, said = read_audio(tmp_path / "x.wav")
    assert (said, found.shape) == (rate, audio.shape)
    assert (found - audio).abs().max() < 1e-4


def test_reading_the_sound_of_a_clip_in_time(tmp_path):
    audio = torch.zeros(1, 48_000)
    audio[:, 24_000:24_048] = 0.9
    Media(video=torch.zeros(10, 16, 16, 3, dtype=torch.uint8), fps=10.0, audio=audio, rate=48_000).save(tmp_path / "x.mp4")
    found, rate = read_audio(tmp_path / "x.mp4")
    assert rate == 48_000 and found.shape == (1, 48_000)
    assert abs(found[0].abs().argmax().item() - 24_024) < 100  # AAC's priming samples are gone


def test_files_without_sound_are_refused(tmp_path):
    Media(video=torch.zeros(3, 16, 16, 3, dtype=torch.uint8), fps=10.0).save(tmp_path / "x.mp4")
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    (tmp_path / "x.wav").write_bytes(b"RIFF of nothing")
    for name, said in (("x.mp4", "no sound"), ("x.png", "no sound"), ("x.wav", "damaged"), ("y.wav", "no such file")):
        with pytest.raises(MgzooError, match=said):
            read_audio(tmp_path / name)


def test_a_corrupt_packet_is_told_and_not_skipped(tmp_path):
    write(tmp_path / "x.flac", 0.5 * (2 * torch.rand(1, 96_000, generator=torch.Generator().manual_seed(0)) - 1), 48_000, "mono")
    data = bytearray((tmp_path / "x.flac").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9000] = bytes(9000)
    (tmp_path / "x.flac").write_bytes(data)
    for reading in (read_audio, media.read):
        with pytest.raises(MgzooError, match="damaged|says"):
            reading(tmp_path / "x.flac")


def test_a_file_cut_short_is_told(tmp_path):
    write(tmp_path / "x.flac", sine(300, 2.0, level=0.5), 48_000, "mono")
    data = (tmp_path / "x.flac").read_bytes()
    (tmp_path / "x.flac").write_bytes(data[: len(data) // 2])
    with pytest.raises(MgzooError, match="damaged|says"):
        read_audio(tmp_path / "x.flac")


# ---------------------------------------------------------------------------------------------------- spectra


def test_spectrum_of_a_full_scale_sine_is_one_at_its_frequency():
    found = stft_magnitude(sine(3000, 0.5), 1024)[0]
    assert found.shape[0] == 513 and found[:, 10:-10].mean(1).argmax() == 64
    assert found[64, 10:-10].mean() == pytest.approx(1.0, abs=0.01)


def test_mel_bands_rise_with_pitch_and_weigh_the_same():
    filters = mel_filters(48_000, 2048, 80)
    assert filters.shape == (80, 1025) and torch.allclose(filters.sum(1), torch.ones(80))
    bands = [mel_spectrogram(sine(hertz, 0.3), 48_000)[0].mean(-1).argmax().item() for hertz in (200, 800, 3000, 12_000)]
    assert bands == sorted(bands) and len(set(bands)) == 4


# ---------------------------------------------------------------------------------------------------- pictures


def test_a_spectrogram_shows_the_tone_where_it_is(tmp_path):
    audio = torch.cat([torch.zeros(1, 24_000), sine(1000, 0.5, level=0.8)], 1)
    path = draw_spectrogram(audio, 48_000, tmp_path / "x.png", title="a tone")
    picture = numpy.asarray(Image.open(path)).astype(int).sum(2)
    body = picture[94:254, 56:-8]
    half = body.shape[1] // 2
    assert body[:, : half - 10].max() < 60  # silence is dark
    bright = body[:, half + 20 :].mean(1).argmax()
    scale = lambda f: 2595 * math.log10(1 + f / 700)  # noqa: E731
    assert abs(bright - 160 * (1 - (scale(1000) - scale(20)) / (scale(24_000) - scale(20)))) < 4


@pytest.mark.parametrize("samples", [1, 7, 480])
def test_a_spectrogram_of_very_little(tmp_path, samples):
    assert Image.open(draw_spectrogram(torch.full((2, samples), 0.5), 48_000, tmp_path / "x.png")).size[0] > 300


def test_no_spectrogram_of_nothing(tmp_path):
    with pytest.raises(MgzooError, match="no sample"):
        draw_spectrogram(torch.zeros(1, 0), 48_000, tmp_path / "x.png")


# ---------------------------------------------------------------------------------------------------- the former module


def test_names_of_before_are_the_same_functions_and_warn_once():
    sys.modules.pop("mgzoo.sound", None)
    with pytest.warns(DeprecationWarning, match="is now mgzoo.media.audio") as said:
        from mgzoo.sound import cut, read, spectrogram
    assert (cut, read, spectrogram) == (slice_padded, read_audio, draw_spectrogram) and len(said) == 1
