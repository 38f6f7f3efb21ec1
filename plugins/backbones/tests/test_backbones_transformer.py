"""Laws of the shared forward, held by both backbones on tiny sizes."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from mgzoo.parts import Backbone, Condition
from mgzoo.spec import ConditionSpec, LatentSpec, MgzooError
from mgzoo_backbones.adaln import sinusoid
from mgzoo_backbones.configs import DiTConfig, Llama3Config
from mgzoo_backbones.dit import DiT
from mgzoo_backbones.llama3 import Llama3, Normalise, RMSNorm
from mgzoo_backbones.transformer import expand_positions, patchify, unpatchify

VIDEO = LatentSpec(space="autoencoders.tae4", channels=4, stride=(8, 8, 8))
SOUND = LatentSpec(space="autoencoders.dacvae", channels=6, stride=(1920,), layout="sound")
TEXT = ConditionSpec(name="text", dim=10)
GLYPHS = ConditionSpec(name="glyphs", dim=6)
FPS = ConditionSpec(name="fps", dim=3, kind="vector")
POSE = ConditionSpec(name="pose", dim=5, kind="frames")
SPECS = (TEXT, GLYPHS, FPS, POSE)
BOTH = pytest.mark.parametrize("target, config", [(Llama3, Llama3Config), (DiT, DiTConfig)])


def small(config, **changes):
    return dataclasses.replace(config.tiny(), depth=2, width=32, heads=4, ffn=48, **changes)


def build(target, config, latent=VIDEO, conditions=SPECS, concat_channels=0, trained=True):
    """A model; `trained` moves the zero-initialised layers off zero, so that inputs can matter."""
    torch.manual_seed(0)
    model = target(config, latent=latent, conditions=conditions, concat_channels=concat_channels)
    if trained:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def make_conditions(batch, frames, specs=SPECS, length=5):
    made = {}
    for spec in specs:
        shape = {"tokens": (batch, length, spec.dim), "vector": (batch, spec.dim), "frames": (batch, frames, spec.dim)}[spec.kind]
        mask = torch.ones(shape[:2] if spec.kind == "tokens" else (batch,), dtype=torch.bool)
        made[spec.name] = Condition(name=spec.name, values=torch.randn(shape), mask=mask)
    return made


def row(conditions, i):
    return {name: dataclasses.replace(c, values=c.values[i : i + 1], mask=c.mask[i : i + 1]) for name, c in conditions.items()}


@BOTH
@pytest.mark.parametrize("axes", [(3, 4, 6), (1, 4, 4), (2, 2, 8)])
def test_prediction_has_the_latents_shape(target, config, axes):
    model = build(target, small(config))
    assert isinstance(model, Backbone)
    y = model(torch.randn(2, 4, *axes), torch.rand(2), make_conditions(2, axes[0]))
    assert y.shape == (2, 4, *axes) and y.isfinite().all()


def test_sound_is_a_latent_of_rank_one():
    config = small(Llama3Config, patch=(2,), max_len=(20,))
    model = build(Llama3, config, latent=SOUND, conditions=(TEXT,))
    assert model(torch.randn(2, 6, 16), torch.rand(2), make_conditions(2, 8, (TEXT,))).shape == (2, 6, 16)


@BOTH
def test_prediction_is_zero_before_training(target, config):
    model = build(target, small(config), trained=False)
    y = model(torch.randn(2, 4, 2, 4, 4), torch.rand(2), make_conditions(2, 2))
    assert torch.equal(y, torch.zeros_like(y))


@BOTH
@pytest.mark.parametrize("dtype, tolerance, way", [(torch.float32, 1e-4, "fp32"), (torch.bfloat16, 0.15, "fp32"), (torch.bfloat16, 0.15, "bf16")])
@pytest.mark.parametrize("sizes", [[(2, 4, 6), (1, 4, 4), (3, 2, 2)], [(2, 4, 8), (2, 8, 4), (4, 4, 4)], [(2, 4, 4)] * 3])
def test_a_mixed_batch_equals_each_sample_alone(target, config, sizes, dtype, tolerance, way, monkeypatch):
    monkeypatch.setenv("MGZOO_PRECISION", way)
    model = build(target, small(config)).to(dtype)
    latents, t = [torch.randn(4, *size) for size in sizes], torch.rand(3)
    conditions = make_conditions(3, max(size[0] for size in sizes))
    conditions["text"] = dataclasses.replace(conditions["text"], mask=torch.arange(5) < torch.tensor([[5], [0], [2]]))
    conditions["fps"] = conditions["fps"].dropped(torch.tensor([True, False, False]))
    together = model(latents, t, conditions)
    assert isinstance(together, list)
    for i, (x, y) in enumerate(zip(latents, together)):
        own = row(conditions, i)
        own["pose"] = dataclasses.replace(own["pose"], values=own["pose"].values[:, : x.shape[1]])
        expected = model(x[None], t[i : i + 1], own)[0]
        scale = expected.float().abs().max()
        torch.testing.assert_close(y.float() / scale, expected.float() / scale, atol=tolerance, rtol=0)
        assert y.dtype == dtype


@BOTH
@pytest.mark.parametrize("dtype, tolerance, way", [(torch.float32, 1e-4, "fp32"), (torch.bfloat16, 0.05, "fp32"), (torch.bfloat16, 0.05, "bf16")])
def test_gradients_of_a_mixed_batch_are_the_sum_of_each_samples_alone(target, config, dtype, tolerance, way, monkeypatch):
    monkeypatch.setenv("MGZOO_PRECISION", way)
    model = build(target, small(config), conditions=(TEXT,)).to(dtype)
    exact = build(target, small(config), conditions=(TEXT,))
    exact.load_state_dict({name: p.float() for name, p in model.state_dict().items()})
    latents, t = [torch.randn(4, *size).bfloat16().float() for size in [(8, 32, 16), (1, 4, 4), (3, 2, 2)]], torch.rand(3)
    text = make_conditions(3, 1, (TEXT,))["text"]
    text = dataclasses.replace(text, values=text.values.bfloat16().float(), mask=torch.arange(5) < torch.tensor([[5], [1], [2]]))
    sum(y.float().sum() for y in model(latents, t, {"text": text})).backward()
    for i, x in enumerate(latents):
        exact(x[None], t[i : i + 1], row({"text": text}, i)).sum().backward()
    for (name, p), q in zip(model.named_parameters(), exact.parameters()):
        if p.grad is not None and q.grad.norm() > 0:
            assert (p.grad.float() - q.grad).norm() < tolerance * q.grad.norm(), name


@BOTH
def test_time_matters(target, config):
    model = build(target, small(config))
    x, conditions = torch.randn(1, 4, 2, 4, 4), make_conditions(1, 2)
    early, late = model(x, torch.tensor([0.1]), conditions), model(x, torch.tensor([0.9]), conditions)
    assert not torch.allclose(early, late, rtol=1e-2)


@BOTH
@pytest.mark.parametrize("name", [c.name for c in SPECS])
def test_dropping_a_condition_is_its_null_whatever_its_values(target, config, name):
    model = build(target, small(config))
    x, t, conditions = torch.randn(2, 4, 2, 4, 4), torch.rand(2), make_conditions(2, 2)
    given = model(x, t, conditions)
    first = torch.tensor([True, False])
    dropped = model(x, t, conditions | {name: conditions[name].dropped(first)})
    assert not torch.allclose(given[0], dropped[0], atol=1e-4)
    torch.testing.assert_close(given[1], dropped[1], atol=1e-4, rtol=1e-4)

    other = dataclasses.replace(conditions[name].dropped(), values=torch.full_like(conditions[name].values, torch.inf))
    absent = {key: value for key, value in conditions.items() if key != name}
    all_dropped = model(x, t, conditions | {name: other})
    torch.testing.assert_close(all_dropped, model(x, t, conditions | {name: conditions[name].dropped()}))
    torch.testing.assert_close(all_dropped, model(x, t, absent), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(all_dropped[0], dropped[0], atol=1e-4, rtol=1e-4)

    with torch.no_grad():
        model.conditions[name].null.add_(1)
    assert not torch.allclose(model(x, t, absent), all_dropped, atol=1e-4)
    torch.testing.assert_close(model(x, t, conditions), given)


@BOTH
def test_masked_tokens_do_not_count(target, config):
    model = build(target, small(config), conditions=(TEXT,))
    x, t, text = torch.randn(2, 4, 2, 4, 4), torch.rand(2), torch.randn(2, 5, 10)
    mask = torch.tensor([[True, True, True, False, False], [False, True, True, False, True]])
    y = model(x, t, {"text": Condition(name="text", values=text, mask=mask)})
    for i in range(2):
        short = Condition(name="text", values=text[i : i + 1, mask[i]], mask=torch.ones(1, 3, dtype=torch.bool))
        torch.testing.assert_close(y[i : i + 1], model(x[i : i + 1], t[i : i + 1], {"text": short}), atol=1e-4, rtol=1e-4)


def test_frames_reach_their_own_time_first():
    model = build(Llama3, small(Llama3Config, patch=(1, 2, 2)), conditions=(POSE,))
    model.blocks = torch.nn.ModuleList()
    x, t, conditions = torch.randn(1, 4, 3, 4, 4), torch.rand(1), make_conditions(1, 3, (POSE,))
    before = model(x, t, conditions)
    conditions["pose"].values[:, 1] += 1
    after = model(x, t, conditions)
    assert torch.equal(before[:, :, [0, 2]], after[:, :, [0, 2]])
    assert not torch.isclose(before[:, :, 1], after[:, :, 1]).all()


@BOTH
def test_fed_channels_start_without_effect_and_can_learn(target, config):
    plain = build(target, small(config), conditions=(), trained=False)
    fed = build(target, small(config), conditions=(), concat_channels=3, trained=False)
    assert fed.embed.weight.shape[1] == plain.embed.weight.shape[1] + 3 * 4
    state = plain.state_dict()
    state["embed.weight"] = torch.cat((state["embed.weight"], fed.embed.weight[:, 16:]), dim=1)
    fed.load_state_dict(state)
    for model in (plain, fed):
        torch.manual_seed(1)
        torch.nn.init.normal_(model.output.weight, std=0.2)
    x, t, extra = torch.randn(2, 4, 2, 4, 4), torch.rand(2), torch.randn(2, 3, 2, 4, 4)
    y = fed(torch.cat((x, extra), dim=1), t)
    torch.testing.assert_close(y, plain(x, t))
    y.square().sum().backward()
    assert fed.embed.weight.grad[:, 16:].abs().sum() > 0


@BOTH
def test_checkpointing_changes_no_gradient(target, config):
    grads = []
    for flag in (False, True):
        model = build(target, small(config, checkpoint=flag))
        torch.manual_seed(1)
        latents, t = [torch.randn(4, 2, 4, 4), torch.randn(4, 1, 4, 6)], torch.rand(2)
        sum(y.square().mean() for y in model(latents, t, make_conditions(2, 2))).backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in grads[0].items():
        assert torch.equal(grad, grads[1][name]), name


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_seed_gives_the_same_bits(target, config, dtype):
    def run():
        model = build(target, small(config), trained=False).to(dtype)
        torch.manual_seed(1)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(2):
            x = torch.randn(2, 4, 2, 4, 4)
            (model(x, torch.rand(2), make_conditions(2, 2)) - x).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
        return model.state_dict()

    first, second = run(), run()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@BOTH
def test_one_batch_can_be_learnt(target, config):
    model = build(target, small(config), conditions=(TEXT,), trained=False)
    x, t, target_ = torch.randn(4, 4, 1, 4, 4), torch.rand(4), torch.randn(4, 4, 1, 4, 4)
    conditions = make_conditions(4, 1, (TEXT,))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(120):
        loss = (model(x, t, conditions) - target_).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(target_.square().mean().item())
    assert losses[-1] < 0.1 * losses[0]


def test_the_two_backbones_differ_in_norm_activation_and_bias_alone():
    def inventory(target, config):
        model = build(target, small(config, eps=1e-5), trained=False)
        return {name: tuple(p.shape) for name, p in model.named_parameters()}

    llama3, dit = inventory(Llama3, Llama3Config), inventory(DiT, DiTConfig)
    norms = {"norm.weight", *(f"blocks.{i}.{n}_norm.weight" for i in range(2) for n in ("attention", "ffn"))}
    gates = {f"blocks.{i}.ffn.w13.weight" for i in range(2)}
    assert llama3.keys() - dit.keys() == norms | gates
    gained = dit.keys() - llama3.keys()
    assert {name for name in gained if not name.endswith(".bias")} == {f"blocks.{i}.ffn.w1.weight" for i in range(2)}
    for name in gained:
        if name.endswith(".bias"):
            assert dit[name] == dit[name.replace(".bias", ".weight")][:1]
    biased = {name.replace(".weight", ".bias") for name in dit if name.endswith(".weight") and not name.startswith("conditions.")}
    assert biased == {name for name in gained if name.endswith(".bias")}
    assert {name: dit[name] for name in llama3.keys() & dit.keys()} == {
        name: llama3[name] for name in llama3.keys() & dit.keys()
    }


def test_initial_values():
    config = dataclasses.replace(Llama3Config.tiny(), depth=2)
    model = build(DiT, dataclasses.replace(DiTConfig.tiny(), depth=2), concat_channels=2, trained=False)
    d, zero = config.width, {"output.weight", "modulation.weight"}
    for name, p in model.named_parameters():
        if name in zero or (name.endswith(".bias")):
            assert (p == 0).all(), name
        elif name.endswith("table"):
            assert p.std().item() == pytest.approx(d**-0.5, rel=0.2), name
        elif name.endswith("norm.weight"):
            assert (p == 1).all(), name
        elif name == "embed.weight":
            assert p[:, :16].std().item() == pytest.approx(0.02, rel=0.1) and (p[:, 16:] == 0).all()
        else:
            assert p.std().item() == pytest.approx(0.02, rel=0.25), name


def test_positions_are_added_to_the_input_of_every_layer():
    model = build(Llama3, small(Llama3Config), conditions=())
    seen = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    model(torch.randn(1, 4, 2, 4, 6), torch.rand(1))
    t, h, w = model.positions.axis0, model.positions.axis1, model.positions.axis2
    expected = torch.stack([t[i] + h[j] + w[k] for i in range(2) for j in range(2) for k in range(3)])[None]
    for positions in seen:
        torch.testing.assert_close(positions, expected)
    assert len(seen) == 2


@BOTH
def test_time_offset_moves_a_sample_along_the_first_axis(target, config):
    """At 0 it changes nothing; at 2 the sample lies where a longer table's rows 2, 3 … are."""
    model = build(target, small(config))
    x, t, told = torch.randn(2, 4, 3, 4, 4), torch.rand(2), make_conditions(2, 3)
    torch.testing.assert_close(model(x, t, told, torch.tensor([0, 0])), model(x, t, told))
    moved = model(x, t, told, time_offset=torch.tensor([0, 2]))
    with torch.no_grad():
        model.positions.axis0.copy_(model.positions.axis0.roll(-2, 0))
    rolled = model(x, t, told)
    torch.testing.assert_close(moved[1], rolled[1])
    assert not torch.allclose(moved[0], rolled[0])


@BOTH
@pytest.mark.parametrize("sizes", [((3, 4, 4), (1, 4, 4)), ((2, 4, 2), (2, 2, 4)), ((2, 4, 4), (2, 4, 4))])
def test_time_offsets_of_a_list_are_those_of_each_sample(target, config, sizes):
    model = build(target, small(config))
    x, t, told = [torch.randn(4, *size) for size in sizes], torch.rand(2), make_conditions(2, 1)
    together = model(x, t, told, torch.tensor([1, 4]))
    for i, offset in enumerate((1, 4)):
        alone = model(x[i][None], t[i : i + 1], row(told, i), torch.tensor([offset]))[0]
        torch.testing.assert_close(together[i], alone, rtol=1e-4, atol=1e-4)


def test_time_offsets_that_do_not_fit_are_refused():
    model = build(Llama3, small(Llama3Config, patch=(2, 2, 2)))
    x, t = torch.randn(2, 4, 2, 4, 4), torch.rand(2)
    with pytest.raises(MgzooError, match="9 patches along t exceed max_len 8"):
        model(x, t, None, torch.tensor([0, 16]))
    with pytest.raises(MgzooError, match="time_offset 3 is not a multiple of the patch 2"):
        model(x, t, None, torch.tensor([0, 3]))
    with pytest.raises(MgzooError, match="one integer from 0 for each sample"):
        model(x, t, None, torch.tensor([0]))


def test_tokens_are_told_apart_by_position_only_through_the_tables():
    model = build(Llama3, small(Llama3Config), conditions=())
    x, t = torch.randn(1, 4, 2, 4, 4), torch.rand(1)
    shifted = x.roll(2, dims=3)
    assert not torch.allclose(model(x, t).roll(2, dims=3), model(shifted, t), atol=1e-3)
    with torch.no_grad():
        for table in model.positions.parameters():
            table.zero_()
    torch.testing.assert_close(model(x, t).roll(2, dims=3), model(shifted, t), atol=1e-3, rtol=1e-3)


def test_patchify_is_the_convolution_it_stands_for():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 2, 6, 8), torch.randn(5, 4, 1, 2, 2)
    expected = F.conv3d(x, weight, stride=(1, 2, 2)).flatten(2).mT
    rows = patchify(x, (1, 2, 2))
    torch.testing.assert_close(F.linear(rows, weight.flatten(1)), expected)
    assert torch.equal(unpatchify(rows, (2, 3, 4), (1, 2, 2)), x)
    sound = torch.randn(2, 6, 12)
    assert torch.equal(unpatchify(patchify(sound, (3,)), (4,), (3,)), sound)


def test_rms_norm_is_torchs():
    torch.manual_seed(0)
    norm, x = RMSNorm(16, 1e-5), torch.randn(2, 3, 16)
    torch.nn.init.normal_(norm.weight)
    shift, scale = torch.randn(2, 1, 16), torch.randn(2, 1, 16)
    torch.testing.assert_close(norm(x, shift, scale), F.rms_norm(x, (16,), norm.weight, 1e-5) * scale + shift)
    zero = torch.zeros(1, 1, 16, requires_grad=True)
    norm(zero, shift[:1], scale[:1]).sum().backward()
    assert zero.grad.isfinite().all()
    precise = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Normalise.apply(x, 0.1), precise)


def test_sinusoid_frequencies():
    features = sinusoid(torch.tensor([0.0, 1000.0]), 256)
    assert torch.equal(features[0], torch.cat((torch.ones(128), torch.zeros(128))))
    assert features[1, 128].item() == pytest.approx(torch.tensor(1000.0).sin().item(), abs=1e-4)
    assert features[1, 129].item() == pytest.approx(torch.tensor(1000.0 * 10_000 ** (-1 / 128)).sin().item(), abs=1e-3)


def test_expanded_positions_keep_each_place_where_it_was():
    table = torch.arange(6.0)[:, None].expand(6, 3)
    assert torch.equal(expand_positions(table, 1), table)
    grown = expand_positions(table, 3)
    assert grown.shape == (18, 3)
    torch.testing.assert_close(grown[1::3], table)
    assert (grown.diff(dim=0) >= 0).all()
    assert expand_positions(table.bfloat16(), 2).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="factor must be at least 1, got 0"):
        expand_positions(table, 0)


def test_a_grown_model_runs_at_the_larger_size():
    config = small(Llama3Config, max_len=(2, 2, 2))
    model = build(Llama3, config, conditions=())
    with pytest.raises(MgzooError):
        model(torch.randn(1, 4, 2, 8, 8), torch.rand(1))
    state = {
        name: expand_positions(p, 2) if name in ("positions.axis1", "positions.axis2") else p
        for name, p in model.state_dict().items()
    }
    grown = build(Llama3, dataclasses.replace(config, max_len=(2, 4, 4)), conditions=())
    grown.load_state_dict(state)
    assert grown(torch.randn(1, 4, 2, 8, 8), torch.rand(1)).shape == (1, 4, 2, 8, 8)


def test_conditions_that_do_not_fit_are_named():
    needed = ConditionSpec(name="text", dim=10, optional=False)
    model = build(Llama3, small(Llama3Config), conditions=(needed,))
    x, t, conditions = torch.randn(1, 4, 1, 4, 4), torch.rand(1), make_conditions(1, 1, (TEXT,))
    for given, message in [
        ({}, "condition text is missing\n    -> provide it: the model requires this condition"),
        (
            conditions | {"txt": conditions["text"]},
            "unknown condition txt; this backbone takes text\n    -> rename its encoder, or remove it",
        ),
        (
            {"text": make_conditions(1, 1, (ConditionSpec(name="text", dim=9),))["text"]},
            "condition text has values of shape (1, 5, 9), expected (1, 5, 10)\n"
            "    -> use an encoder with tokens of width 10",
        ),
    ]:
        with pytest.raises(MgzooError) as error:
            model(x, t, given)
        assert str(error.value) == message
    with pytest.raises(MgzooError) as error:
        model(torch.randn(1, 5, 1, 4, 4), t, conditions)
    assert str(error.value).startswith("latents of shape (1, 5, 1, 4, 4) given to a backbone for 4 channels and 3 axes")
    with pytest.raises(MgzooError, match="latent size 5 along h is not a multiple of the patch 2"):
        model(torch.randn(1, 4, 1, 5, 4), t, conditions)
    with pytest.raises(MgzooError, match="have 1"):
        build(Llama3, small(Llama3Config), latent=SOUND)


def test_frames_of_the_wrong_number_are_refused():
    model = build(Llama3, small(Llama3Config), conditions=(POSE,))
    with pytest.raises(MgzooError, match="condition pose has 2 frames for 3 latent times"):
        model(torch.randn(1, 4, 3, 4, 4), torch.rand(1), make_conditions(1, 2, (POSE,)))
