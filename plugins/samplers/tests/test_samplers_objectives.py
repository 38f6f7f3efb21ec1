"""Flow matching and v-diffusion against their formulas."""

import math

import pytest
import torch

from mgzoo.parts import Objective
from mgzoo_samplers.configs import FlowMatchingConfig, VDiffusionConfig
from mgzoo_samplers.flow_matching import FlowMatching
from mgzoo_samplers.schedules import noise_levels
from mgzoo_samplers.v_diffusion import VDiffusion

SHAPE = (3, 4, 2, 3, 5)
OBJECTIVES = [FlowMatching(FlowMatchingConfig()), VDiffusion(VDiffusionConfig()), VDiffusion(VDiffusionConfig(schedule="cosine"))]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def data():
    return torch.randn(SHAPE, generator=generator(7))


def test_flow_matching_is_the_papers_formula():
    x1, t = data(), torch.tensor([0.0, 0.3, 1.0])
    noisy, same_t, velocity = FlowMatching(FlowMatchingConfig()).pair(x1, generator(), t)
    g = generator()
    x0 = torch.stack([torch.randn(SHAPE[1:], generator=g) for _ in range(3)])
    assert torch.equal(same_t, t)
    torch.testing.assert_close(velocity, x1 - (1 - 1e-5) * x0)
    for i, ti in enumerate(t.tolist()):
        torch.testing.assert_close(noisy[i], ti * x1[i] + (1 - (1 - 1e-5) * ti) * x0[i])
    assert torch.equal(noisy[0], x0[0])  # t = 0 is pure noise: zero terminal SNR without a trick


def test_the_velocity_is_the_slope_of_the_path():
    x1, objective = data().double().float(), FlowMatching(FlowMatchingConfig(sigma_min=0.1))
    here, _, velocity = objective.pair(x1, generator(), torch.full((3,), 0.25))
    there, _, _ = objective.pair(x1, generator(), torch.full((3,), 0.75))
    torch.testing.assert_close((there - here) / 0.5, velocity, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "scaled_linear"])
def test_v_gives_back_data_and_noise(schedule):
    x1, t = data(), torch.tensor([0.0, 0.4, 0.9])
    noisy, _, v = VDiffusion(VDiffusionConfig(schedule=schedule)).pair(x1, generator(), t)
    g = generator()
    x0 = torch.stack([torch.randn(SHAPE[1:], generator=g) for _ in range(3)])
    a, s = (level.float().view(3, 1, 1, 1, 1) for level in noise_levels(schedule, t))
    torch.testing.assert_close(a * noisy - s * v, x1, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(s * noisy + a * v, x0, rtol=1e-4, atol=1e-5)
    assert torch.equal(noisy[0], x0[0]) and torch.equal(v[0], -x1[0])  # terminal SNR is exactly zero


@pytest.mark.parametrize("schedule", ["cosine", "scaled_linear"])
def test_noise_levels_are_unit_variance_monotone_and_end_exactly(schedule):
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    a, s = noise_levels(schedule, t)
    assert a[0] == 0 and s[0] == 1 and a[-1] == 1 and s[-1] == 0
    torch.testing.assert_close(a**2 + s**2, torch.ones_like(t))
    assert (a.diff() > 0).all() and (s.diff() < 0).all()


def test_scaled_linear_is_the_rescaling_of_stable_diffusions_levels():
    betas = [(0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * i / 999) ** 2 for i in range(1000)]
    roots = []
    product = 1.0
    for beta in betas:
        product *= 1 - beta
        roots.append(math.sqrt(product))
    assert roots[-1] == pytest.approx(0.0682, abs=1e-3)  # what rescaling removes: signal left at the last level
    for level in (1, 250, 999):
        expected = (roots[level - 1] - roots[-1]) * roots[0] / (roots[0] - roots[-1])
        a, _ = noise_levels("scaled_linear", torch.tensor([1 - level / 1000], dtype=torch.float64))
        assert a.item() == pytest.approx(expected, rel=1e-9)


def test_t_is_logit_normal():
    t = FlowMatching(FlowMatchingConfig()).pair(torch.zeros(20_000, 1, 1), generator(3))[1].double()
    ranks = torch.arange(1, len(t) + 1, dtype=torch.float64) / len(t)
    expected = torch.special.ndtr(torch.logit(t.sort().values))
    critical = 1.63 / math.sqrt(len(t))  # Kolmogorov-Smirnov at 1 %
    assert (expected - ranks).abs().max() < critical
    uniform = VDiffusion(VDiffusionConfig()).pair(torch.zeros(20_000, 1, 1), generator(3))[1].double()
    assert (uniform.sort().values - ranks).abs().max() < critical
    assert (torch.special.ndtr(torch.logit(uniform.sort().values)) - ranks).abs().max() > 5 * critical  # the counter-example


def test_t_mean_and_std_move_the_distribution():
    t = FlowMatching(FlowMatchingConfig(t_mean=-1.0, t_std=0.5)).pair(torch.zeros(20_000, 1, 1), generator(3))[1]
    n = torch.logit(t)
    assert n.mean().item() == pytest.approx(-1.0, abs=0.02) and n.std().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_list_of_samples_is_treated_as_a_tensor_is(objective):
    x1 = data()
    batch, listed = objective.pair(x1, generator(1)), objective.pair(list(x1), generator(1))
    assert torch.equal(batch[1], listed[1])
    for i in range(3):
        assert torch.equal(batch[0][i], listed[0][i]) and torch.equal(batch[2][i], listed[2][i])
    guess = torch.randn(SHAPE, generator=generator(2))
    torch.testing.assert_close(objective.loss(guess, batch[2], batch[1]), objective.loss(list(guess), listed[2], listed[1]))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_mixed_sizes_weigh_samples_equally(objective):
    sizes = [torch.zeros(4, 1, 2, 2), torch.zeros(4, 6, 8, 8)]
    noisy, t, target = objective.pair(sizes, generator())
    assert [x.shape for x in noisy] == [x.shape for x in sizes] == [x.shape for x in target] and t.shape == (2,)
    wrong = [target[0] + 2, target[1]]
    torch.testing.assert_close(objective.loss(wrong, target, t), torch.tensor(2.0))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_draws_follow_the_generator_alone(objective):
    x1 = data()
    first = objective.pair(x1, generator(5))
    torch.manual_seed(99)
    again, other = objective.pair(x1, generator(5)), objective.pair(x1, generator(6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_bf16_latents_are_noised_and_compared_in_float32(objective):
    noisy, t, target = objective.pair(data().bfloat16(), generator())
    assert noisy.dtype == t.dtype == target.dtype == torch.float32
    prediction = torch.zeros(SHAPE, dtype=torch.bfloat16, requires_grad=True)
    loss = objective.loss(prediction, target, t)
    assert loss.dtype == torch.float32 and loss.shape == ()
    loss.backward()
    assert prediction.grad.abs().sum() > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_keeps_the_protocol_and_says_what_it_predicts(objective):
    assert isinstance(objective, Objective)
    assert objective.config.prediction_type() == ("velocity" if isinstance(objective, FlowMatching) else "v")
    assert objective.config.num_parameters() == 0


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (FlowMatchingConfig, {"sigma_min": 1.0}, "sigma_min must be in [0, 1), not 1.0"),
        (FlowMatchingConfig, {"t_std": 0.0}, "t_std must be positive, not 0.0"),
        (VDiffusionConfig, {"schedule": "linear"}, "schedule must be one of ('scaled_linear', 'cosine'), not 'linear'"),
    ],
)
def test_nonsense_is_refused(config, settings, message):
    with pytest.raises(ValueError) as caught:
        config(**settings)
    assert str(caught.value) == message
