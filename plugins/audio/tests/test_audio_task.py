"""The five uses on a tiny model: lengths, what is kept of what was given, levels, sync, seeds, bad input."""

import dataclasses

import pytest
import torch

import mgzoo
from mgzoo import media as files
from mgzoo.media import Media
from mgzoo.model.build import build
from mgzoo.parts import Clip
from mgzoo.spec import MgzooError
from mgzoo.testing.training import overfit_one_batch
from mgzoo_audio.configs import SoundConfig
from mgzoo_audio.loudness import loudness, normalize_loudness, true_peak
from mgzoo_audio.request import Plan
from mgzoo_audio.splice import splice
from mgzoo_audio.task import SampleSpec
from mgzoo_audio.video_features import Footage, frame_weights

RATE, HOP = 8000, 320
RECIPE = """
schema: 1
parts:
  autoencoder:
    use: autoencoders.dacvae.v1
    config: {rate: 8000, channels: 8, encoder_dim: 8, rates: [4, 5], latent_dim: 16, decoder_dim: 16, patch: 16, linear: true, space: testing.sound8}
    frozen: true
  encoders:
    text: {use: encoders.bytes.v1, config: {size: tiny, width: 32}}
    video: {use: audio.frames.v1, config: {size: 16, channels: 8, width: 32}}
  backbone: {use: backbones.llama3.v1, config: {depth: 2, width: 64, heads: 2, ffn: 128, patch: [1], max_len: [40]}}
  objective: {use: samplers.flow_matching.v1, config: {t_mean: -1.0}}
  sampler: {use: samplers.midpoint.v1, config: {steps: 2, guidance: 2.0}}
  task: {use: audio.sound.v1, config: {rate: 8000, seconds: 1.6, window: 1.6, overlap: 0.8, picture: 16}}
train: {condition_dropout: 0.2}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "sound.yaml"
    file.write_text(RECIPE)
    made = build(mgzoo.compose(file))
    torch.manual_seed(0)
    for layer in (made.backbone.output, made.backbone.modulation):  # they start at zero: nothing would show
        torch.nn.init.normal_(layer.weight, std=0.1)
    torch.nn.init.normal_(made.backbone.embed.weight, std=0.1)
    return made.eval()


def moving(frames=16, fps=10.0, size=(20, 24)) -> Media:
    video = torch.zeros(frames, *size, 3, dtype=torch.uint8)
    for i in range(frames):
        video[i, :, i % size[1]] = 255
    return Media(video=video, fps=fps)


def tone(seconds=2.0, hertz=440.0, channels=1, rate=RATE, level=0.2) -> Media:
    wave = level * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * rate)) / rate)
    return Media(audio=torch.stack([wave * (1 - 0.5 * i) for i in range(channels)]), rate=rate)


# ------------------------------------------------------------------------------------------------------------ the five uses


def test_text_to_sound(model):
    made = model.generate("a bell")
    assert made.audio.shape == (1, round(1.6 * RATE)) and made.audio.dtype == torch.float32 and made.rate == RATE and made.video is None
    assert (made.caption, made.meta["prompt"], made.meta["seed"]) == ("a bell", "a bell", 0)
    assert model.generate("a bell", seconds=0.513).audio.shape == (1, round(0.513 * RATE))


def test_video_to_sound_keeps_the_picture_and_is_exactly_as_long(model):
    clip = moving(frames=13, fps=12.5)
    for words in (None, "steps on gravel"):
        made = model.generate(words, video=clip)
        assert torch.equal(made.video, clip.video) and made.fps == 12.5
        assert made.audio.shape == (1, round(13 / 12.5 * RATE))


def test_the_prompt_and_the_picture_reach_the_model(model):
    still, other = moving(), dataclasses.replace(moving(), video=moving().video.flip(0))
    heard = [model.generate(words, video=clip).audio for words, clip in (("a", still), ("b", still), (None, still), ("a", other))]
    assert all((one - heard[0]).abs().max() > 1e-4 for one in heard[1:])
    assert torch.equal(model.generate("a", video=still).audio, heard[0])


def test_a_sound_longer_than_the_window(model):
    assert model.generate("rain", seconds=5.3).audio.shape == (1, round(5.3 * RATE))
    long = model.generate("rain", video=moving(frames=47, fps=10.0))
    assert long.audio.shape == (1, round(4.7 * RATE))


@pytest.mark.parametrize("extend, keeps, new", [("3s", slice(0, 16000), 24000), ("0.5s", slice(0, 16000), 4000), ("-1.03s", slice(-16000, None), 8240)])
def test_an_extended_sound_is_the_given_one_but_for_the_fade(model, extend, keeps, new):
    given, fade = tone(channels=2), round(0.04 * RATE)
    made = model.generate("a tone", audio=given, extend=extend).audio
    assert made.shape == (2, 16000 + new)
    kept = made[:, keeps]
    inside = kept[:, :-fade] if extend[0] != "-" else kept[:, fade:]
    theirs = given.audio[:, :-fade] if extend[0] != "-" else given.audio[:, fade:]
    assert torch.equal(inside, theirs) and not torch.equal(kept, given.audio)


@pytest.mark.parametrize("infill", ["0.5s-1.21s", "0s-1s", "1s-2s", "0.013s-1.987s"])
def test_an_infilled_sound_is_the_given_one_elsewhere(model, infill):
    given, fade = tone(channels=1), round(0.04 * RATE)
    made = model.generate(audio=given, infill=infill).audio
    first, last = (round(float(second) * RATE) for second in infill.replace("s", "").split("-"))
    assert made.shape == given.audio.shape and not torch.equal(made[:, first:last], given.audio[:, first:last])
    before, after = max(0, first - fade), last + fade
    assert torch.equal(made[:, :before], given.audio[:, :before]) and torch.equal(made[:, after:], given.audio[:, after:])


def test_a_stretch_of_a_clips_own_sound_is_filled_in(model):
    clip = dataclasses.replace(moving(frames=20), audio=tone().audio, rate=RATE)
    made = model.generate(video=clip, audio=clip, infill="0.5s-1s")
    assert torch.equal(made.video, clip.video) and made.audio.shape == clip.audio.shape
    with pytest.raises(MgzooError, match="the clip has 1.60 s, but the sound has 2.00 s"):
        model.generate(video=moving(), audio=tone(), infill="0.5s-1s")


def test_the_context_is_what_the_codec_makes_of_the_sound_beside_the_new_stretch(model):
    """Extension: the last latents of the given sound, then nothing; infilling: some at either end, at their own times."""
    task, given = model.task, tone().audio
    for plan, lead, trail in ((Plan(given=16000, first=16000, last=17000), 10, 0), (Plan(given=16000, first=-1000, last=0), 0, 10),
                              (Plan(given=16000, first=8000, last=9000), 5, 5), (Plan(given=16000, first=500, last=9000), 1, 9)):  # fmt: skip
        place = task._place(model, plan)
        assert (place.lead, place.new, place.trail) == (lead, -(-plan.new // HOP), trail)
        (context,) = task._contexts(model, given, place)
        assert context[-1].tolist() == [1.0] * lead + [0.0] * place.new + [1.0] * trail
        assert (context[:-1, lead : lead + place.new] == 0).all()
        if lead:
            heard = given[:, place.origin : place.origin + lead * HOP]
            assert torch.allclose(context[:-1, :lead], model.autoencoder.encode(heard[None])[0], atol=1e-5)


def test_the_given_sound_reaches_the_model(model):
    low, high = (model.generate(audio=tone(hertz=hertz), extend="1s").audio[:, 16000:] for hertz in (200, 900))
    assert (low - high).abs().max() > 1e-3


def test_two_channels_are_two_sounds(model):
    """Each channel is extended as it would be alone, from the same noise."""
    both = model.generate(audio=tone(channels=2), extend="1s").audio
    alone = model.generate(audio=tone(channels=1), extend="1s").audio
    assert torch.allclose(both[:1], alone, atol=1e-4) and not torch.allclose(both[0], both[1], atol=1e-3)


@pytest.mark.parametrize("rate", [4000, 8000, 44100, 192_000])
def test_any_rate_is_taken_and_the_models_own_is_given(model, rate):
    made = model.generate(audio=tone(rate=rate, seconds=1.0), extend="0.4s")
    assert made.rate == RATE and made.audio.shape == (1, round(1.4 * RATE))
    inside = made.audio[:, 800:7000]
    assert torch.allclose(inside, tone(seconds=1.0).audio[:, 800:7000], atol=0.01)


# ------------------------------------------------------------------------------------------------------- candidates, seeds


def test_the_same_seed_gives_the_same_bits_and_candidate_i_is_what_seed_plus_i_gives(model):
    one, again, other = (model.generate("a bell", seed=seed).audio for seed in (3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other)
    chosen = model.generate("a bell", seed=3, candidates=3)
    alone = model.generate("a bell", seed=3 + chosen.meta["chosen"]).audio
    assert torch.allclose(chosen.audio, alone, atol=1e-4)
    scores = chosen.meta["scores"]
    assert sorted(scores) == ["audio.caption.v1", "audio.sync.v1"] and len(scores["audio.sync.v1"]) == 3


def test_guidance_zero_forgets_the_prompt(model):
    a, b = (model.generate(words, guidance=0.0).audio for words in ("a", "something else"))
    assert torch.equal(a, b)


# ------------------------------------------------------------------------------------------------------------------ levels


@pytest.mark.parametrize("target", [-16.0, -30.0])
def test_a_new_sound_has_the_loudness_that_is_stated_or_the_peak(target):
    steady = tone(seconds=3.0).audio
    made = normalize_loudness(steady, RATE, target, -1.0)
    assert loudness(made, RATE) == pytest.approx(target, abs=0.1)
    click = torch.zeros(1, 3 * RATE)
    click[:, RATE] = 0.5
    loud = normalize_loudness(click, RATE, -16.0, -1.0)
    assert 20 * torch.log10(torch.tensor(true_peak(loud, RATE))) == pytest.approx(-1.0, abs=0.01)
    assert loudness(loud, RATE) < -16


def test_the_peak_between_samples_counts():
    """A sine at a quarter of the rate, sampled beside its crests: samples reach 0.71, the wave 1."""
    wave = torch.sin(2 * torch.pi * 0.25 * torch.arange(4000) + torch.pi / 4)[None] * torch.hann_window(4000)
    assert wave.abs().max() < 0.72 and true_peak(wave, RATE) == pytest.approx(1.0, abs=0.03)


def test_silence_stays_silent():
    silent = torch.zeros(1, 4000)
    assert torch.equal(normalize_loudness(silent, RATE, -16.0, -1.0), silent)


def test_what_is_generated_does_not_clip(model):
    for made in (model.generate("loud"), model.generate(video=moving()), model.generate("long", seconds=4.0)):
        assert true_peak(made.audio, RATE) <= 10 ** (-1 / 20) + 1e-4
        assert loudness(made.audio, RATE) <= -16 + 0.1


def test_new_samples_louder_than_full_scale_are_made_quieter_and_the_given_ones_stay():
    given, made = tone(seconds=1.0).audio, 5 * tone(seconds=1.0).audio
    joined = splice(given, made, Plan(given=8000, first=8000, last=14000), 6000, 100, -1.0)
    assert joined.abs().max() <= 10 ** (-1 / 20) + 1e-6 and torch.equal(joined[:, :7900], given[:, :7900])


# -------------------------------------------------------------------------------------------------------------------- sync


def test_sound_and_picture_are_in_step_in_the_file(model, tmp_path):
    """A flash and a click at the same times, written as the task writes them and read again: never a frame apart, not even 5 ms."""
    fps, rate, at = 25.0, 48_000, (5, 20, 41)
    video = torch.zeros(50, 32, 32, 3, dtype=torch.uint8)
    audio = torch.zeros(1, 2 * rate)
    for frame in at:
        video[frame] = 255
        audio[:, round(frame / fps * rate) : round(frame / fps * rate) + 200] = 0.5
    read = files.read(Media(video=video, fps=fps, audio=audio, rate=rate).save(tmp_path / "sync.mp4"))
    assert read.fps == fps and abs(read.audio.shape[1] - 2 * rate) <= 1024
    flashes = (read.video.float().mean((1, 2, 3)) > 128).nonzero()[:, 0].tolist()
    loud = (read.audio[0].abs() > 0.2).nonzero()[:, 0]
    clicks = [int(loud[0]), *[int(b) for a, b in zip(loud, loud[1:]) if b - a > 5000]]
    assert flashes == list(at) and len(clicks) == 3
    for frame, click in zip(flashes, clicks):
        assert abs(click / rate - frame / fps) < 0.005


def test_a_clip_with_its_sound_is_written_and_read(model, tmp_path):
    clip = moving(size=(32, 32))
    made = model.generate("drums", video=clip)
    read = files.read(made.save(tmp_path / "clip.mp4"))
    assert len(read.video) == 16 and read.fps == 10 and read.rate == RATE
    assert abs(read.audio.shape[1] - round(1.6 * RATE)) <= 1024


def test_features_stand_at_the_times_of_their_frames():
    """A frame that is on screen while a latent lasts is what the latent sees, in proportion."""
    share = frame_weights(16, 10.0, 40, 25.0)
    assert torch.allclose(share.sum(1), torch.ones(40)) and share.shape == (40, 16)
    assert share[0, 0] == 1 and share[2].tolist()[:2] == pytest.approx([0.5, 0.5])  # 80-120 ms: half of it before the first frame ends
    assert torch.allclose(frame_weights(100, 50.0, 50, 25.0)[3, 6:8], torch.tensor([0.5, 0.5]))  # two frames a latent
    assert frame_weights(4, 10.0, 40, 25.0)[-1].tolist() == [0, 0, 0, 1]  # the last frame stays
    assert torch.allclose(frame_weights(16, 10.0, 10, 25.0, start=0.4), share[10:20])


# --------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("given, said", [
    (Media(audio=torch.full((1, 8000), float("nan")), rate=RATE), "non-finite"),
    (Media(audio=torch.full((1, 8000), 3.0), rate=RATE), "beyond full scale"),
    (Media(audio=torch.zeros(1, 0), rate=RATE), "no sound"),
    (moving(), "no sound"),
])  # fmt: skip
def test_a_sound_that_cannot_be_taken_is_said(model, given, said):
    with pytest.raises(MgzooError, match=said):
        model.generate(audio=given, extend="1s")


def test_surround_sound_is_taken_as_stereo(model):
    surround = torch.zeros(6, 8000)
    surround[0] = 0.2
    made = model.generate(audio=Media(audio=surround, rate=RATE), extend="1s").audio
    assert made.shape == (2, 16000) and torch.allclose(made[0, :7000], torch.full((7000,), 0.2)) and not made[1, :7000].any()


def test_a_silent_sound_and_a_very_short_one_are_extended(model):
    silent = model.generate(audio=Media(audio=torch.zeros(1, 8000), rate=RATE), extend="1s").audio
    assert silent.shape == (1, 16000) and silent.isfinite().all() and torch.equal(silent[:, :7600], torch.zeros(1, 7600))
    short = model.generate(audio=Media(audio=0.1 * torch.ones(1, 3), rate=RATE), extend="1s").audio
    assert short.shape == (1, 8003) and short.isfinite().all()


def test_a_clip_of_one_frame_is_refused(model):
    with pytest.raises(MgzooError, match="single image"):
        model.generate("a bell", video=moving(frames=1))


@pytest.mark.parametrize("request_, said", [({"prompt": "  "}, "prompt is empty"), ({}, "no prompt, video or audio"), ({"prompt": "x", "seconds": 0}, "0 seconds"),
                                            ({"prompt": "x", "seconds": -2}, "-2 seconds"), ({"prompt": "x", "candidates": 0}, "number of candidates: 0")])  # fmt: skip
def test_requests_for_nothing_are_refused(model, request_, said):
    with pytest.raises(MgzooError, match=said):
        model.generate(**request_)


def test_a_damaged_file_is_said(model, tmp_path):
    path = tone(rate=48_000, seconds=1.0).save(tmp_path / "tone.wav")
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(path.read_bytes()[:30])
    with pytest.raises(MgzooError):
        model.generate(audio=str(damaged), extend="1s")


# ---------------------------------------------------------------------------------------------------------------- learning


def testcompand_latents_areexpand_again(model):
    """The power and its inverse cancel, in order and sign; large values press together."""
    task, x = type(model.task)(SoundConfig.tiny(power=0.5, gain=2.5)), torch.tensor([-9.0, -0.01, 0.0, 0.25, 4.0])
    assert torch.allclose(task.compand(x), torch.tensor([-7.5, -0.25, 0.0, 1.25, 5.0])) and torch.allclose(task.expand(task.compand(x)), x)
    assert torch.equal(model.task.compand(x), x)


def clips(shown=None, seconds=0.4):
    """Two captions, two tones, both where a codec of few channels hears them."""
    found = []
    for i, (words, hertz) in enumerate((("low", 30.0), ("high", 80.0))):
        one, seen = tone(seconds=seconds, hertz=hertz).audio, {} if shown is None else {
            "frames": 16, "height": 20, "width": 24, "fps": 10.0, "load": lambda i=i: shown[i]}  # fmt: skip
        found.append(Clip(key=words, digest=f"{words}-{seconds}-{shown and shown[i].float().mean()}", caption=words, sound=lambda one=one: one, samples=one.shape[1], rate=RATE, **seen))
    return found


def test_a_batch_may_hold_sounds_with_and_without_a_picture_and_of_several_lengths(model):
    short = dataclasses.replace(clips()[0], digest="short", sound=lambda: tone(seconds=0.2).audio, samples=1600)
    example = model.task.prepare(model, [short, *clips(shown=[moving().video] * 2)])
    assert isinstance(example.latents, list) and [one is None for one in example.footage] == [True, False, False]
    assert torch.isfinite(model.task.loss(model, example, torch.Generator().manual_seed(0)).total)


def test_a_sound_at_another_rate_than_the_codecs_is_refused(model):
    with pytest.raises(MgzooError, match="16000 samples per second, the codec 8000"):
        model.task.prepare(model, [dataclasses.replace(clips()[0], rate=16_000)])


def test_which_sound_belongs_to_which_word_and_picture_is_learnt(tmp_path):
    """Seventy small steps on two tones: word and picture each choose the tone."""
    file = tmp_path / "sound.yaml"
    file.write_text(RECIPE)
    made = build(mgzoo.compose(file))
    raw = torch.cat([made.autoencoder.posterior(clip.sound()[None])[0] for clip in clips()], 2)
    made.autoencoder.latent_mean.copy_(raw.mean((0, 2)))
    made.autoencoder.latent_std.copy_(raw.std((0, 2)))
    shown = [torch.zeros(16, 20, 24, 3, dtype=torch.uint8), torch.full((16, 20, 24, 3), 255, dtype=torch.uint8)]
    seen = [dataclasses.replace(clip, caption="what is seen") for clip in clips(shown)]
    example = made.task.prepare(made, (seen + clips()) * 3)
    trained = torch.nn.ModuleDict({name.replace(".", "_"): made.part(name) for name in made.task.trained(made)})
    steps = iter(range(1000))
    overfit_one_batch(trained, lambda: made.task.loss(made, example, torch.Generator().manual_seed(next(steps))).total, 70, lambda found: False, lr=4e-3)
    made.eval()
    latents = made.encode_clips(clips())
    for i in (0, 1):
        picture = Footage(load=lambda i=i: shown[i], frames=16, fps=10.0)
        for told in (SampleSpec(words=("low", "high")[i]), SampleSpec(words=None, footage=picture)):
            found = made.task.sampled(made, [dataclasses.replace(told, seed=seed) for seed in range(3)], 10, sampler=made.sampler)
            near, far = ((found - latents[one]).square().mean() for one in (i, 1 - i))
            assert near < 0.7 * far, (i, told, near, far)
