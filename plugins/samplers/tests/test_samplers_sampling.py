"""Solvers, grids and guidance against closed forms.

For data N(m, sd^2) the exact velocity, the exact v and the exact end of every path are known:
x_t = alpha x1 + sigma x0 has variance alpha^2 sd^2 + sigma^2, and the probability flow keeps (x - mean) / std.
"""

import math

import pytest
import torch

from mgzoo.parts import Sampler
from mgzoo.spec import MgzooError
from mgzoo_samplers import schedules
from mgzoo_samplers.configs import DdimConfig, EulerConfig, LinearQuadraticConfig, MidpointConfig
from mgzoo_samplers.guidance import joint_branches, nested_branches
from mgzoo_samplers.samplers import Ddim, Euler, LinearQuadratic, Midpoint
from mgzoo_samplers.solvers import euler_step, midpoint_step

MEAN, SD, SIGMA_MIN = 2.0, 0.5, 1e-5
SHAPE = (2, 3, 1, 2, 2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def exact_velocity(x, t):
    t = t.double().view(-1, 1, 1, 1, 1)
    x, keep = x.double(), 1 - SIGMA_MIN
    sigma = 1 - keep * t
    pull = (t * SD**2 - keep * sigma) / (t**2 * SD**2 + sigma**2)
    return MEAN + pull * (x - t * MEAN)


def exact_v(schedule):
    def v(x, t):
        a, s = (level.view(-1, 1, 1, 1, 1) for level in schedules.noise_levels(schedule, t.double()))
        pull = (a * s * (1 - SD**2)) / (a**2 * SD**2 + s**2)
        return pull * (x.double() - a * MEAN) - s * MEAN

    return v


def denoiser(field):
    return lambda x, t, branches: [field(x, t) for _ in branches]


def end_of(noise, sigma_min=0.0):
    return MEAN + math.sqrt(SD**2 + sigma_min**2) * noise.double()


def error(sampler, field, sigma_min=0.0):
    noise = torch.randn(SHAPE, generator=generator(1))
    out = sampler.sample(denoiser(field), SHAPE, generator(), noise=noise)
    return (out.double() - end_of(noise, sigma_min)).abs().mean().item()


def test_euler_is_of_first_order():
    errors = [error(Euler(EulerConfig(steps=n, guidance=1)), exact_velocity, SIGMA_MIN) for n in (20, 40, 80, 160)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(order == pytest.approx(1.0, abs=0.15) for order in orders), orders


@pytest.mark.parametrize(("step", "order"), [(euler_step, 1), (midpoint_step, 2)])
def test_solvers_are_of_their_order_on_growth(step, order):
    """dx/dt = x, which ends at e: a Gaussian cannot show the midpoint rule's order, since there its second-order error cancels."""

    def grown(steps):
        x, times = torch.ones(1, dtype=torch.float64), schedules.linear(steps)
        for t, t_next in zip(times, times[1:], strict=False):
            x = step(lambda x, t: x, x, t, t_next)
        return abs(x.item() - math.e)

    errors = [grown(n) for n in (20, 40, 80)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(found == pytest.approx(order, abs=0.1) for found in orders), orders


def test_midpoint_is_of_second_order_or_better():
    errors = [error(Midpoint(MidpointConfig(steps=n, guidance=1)), exact_velocity, SIGMA_MIN) for n in (5, 10, 20)]
    assert all(a / b > 3.5 for a, b in zip(errors, errors[1:], strict=False)), errors


def test_midpoint_beats_euler_at_equal_cost():
    assert error(Midpoint(MidpointConfig(steps=16, guidance=1)), exact_velocity, SIGMA_MIN) < 0.1 * error(
        Euler(EulerConfig(steps=32, guidance=1)), exact_velocity, SIGMA_MIN
    )


@pytest.mark.parametrize("schedule", ["cosine", "scaled_linear"])
def test_ddim_converges_to_the_exact_flow(schedule):
    errors = [error(Ddim(DdimConfig(steps=n, guidance=1, schedule=schedule)), exact_v(schedule)) for n in (50, 100, 200)]
    assert errors[0] < 0.05
    assert all(a / b == pytest.approx(2.0, abs=0.3) for a, b in zip(errors, errors[1:], strict=False)), errors


def test_ddim_with_the_wrong_schedule_does_not():
    assert error(Ddim(DdimConfig(steps=200, guidance=1, schedule="cosine")), exact_v("scaled_linear")) > 0.05


@pytest.mark.parametrize("schedule", ["cosine", "scaled_linear"])
@pytest.mark.parametrize("steps", [1, 7])
def test_ddim_finds_a_single_point_at_any_number_of_steps(schedule, steps):
    point = torch.randn(SHAPE, generator=generator(4)).double()

    def v(x, t):
        a, s = (level.view(-1, 1, 1, 1, 1) for level in schedules.noise_levels(schedule, t.double()))
        noise = (x.double() - a * point) / s
        return a * noise - s * point

    out = Ddim(DdimConfig(steps=steps, guidance=1, schedule=schedule)).sample(denoiser(v), SHAPE, generator())
    torch.testing.assert_close(out.double(), point, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", [Euler(EulerConfig(steps=1, guidance=1)), LinearQuadratic(LinearQuadraticConfig(steps=1, guidance=1))])
def test_one_step_is_the_whole_way(sampler):
    noise = torch.randn(SHAPE, generator=generator(1))
    out = sampler.sample(lambda x, t, branches: [torch.full_like(x, 3.0)], SHAPE, generator(), noise=noise)
    torch.testing.assert_close(out, noise + 3)


def test_linear_quadratic_has_the_derived_values():
    times = schedules.linear_quadratic(50, 250)
    assert len(times) == 51
    assert times[24:30] == pytest.approx([0.096, 0.1, 0.10528, 0.11312, 0.12352, 0.13648])
    assert times[-4:] == pytest.approx([0.80752, 0.86912, 0.93328, 1.0])
    square = schedules.linear_quadratic(50, 250, "square")
    assert square[25:29] == pytest.approx([0.1, 0.10144, 0.10576, 0.11296])
    assert square[-3:] == pytest.approx([0.86176, 0.92944, 1.0])
    assert square[26] - square[25] < square[25] - square[24]  # which slope never does
    assert schedules.linear_quadratic(50, 1000)[:26] == pytest.approx([i / 1000 for i in range(26)])


def test_linear_quadratic_is_the_polynomial_of_the_open_code():
    steps, linear_steps = 50, 1000
    first, rest, tau = 25, 25, 25 / 1000
    d = first - tau * steps
    a, b = d / (first * rest**2), tau / first - 2 * d / rest**2
    expected = [i * tau / first if i < first else a * i * i + b * i + a * first**2 for i in range(steps)] + [1.0]
    assert schedules.linear_quadratic(steps, linear_steps) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("linear_steps", [50, 250, 1000])
def test_steps_of_slope_never_shorten(steps, linear_steps):
    times = schedules.linear_quadratic(steps, linear_steps)
    sizes = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert times[0] == 0.0 and times[-1] == 1.0 and len(times) == steps + 1
    assert all(b >= a - 1e-12 for a, b in zip(sizes, sizes[1:], strict=False))


def test_as_many_steps_as_emulated_are_linear():
    assert schedules.linear_quadratic(50, 50) == pytest.approx(schedules.linear(50))


def field_with_a_busy_start(x, t):
    """A path that turns within the first few hundredths of the way, as video models do (Movie Gen, section 5)."""
    t = t.double().view(-1, 1, 1, 1, 1)
    return MEAN - 30 * torch.exp(-t / 0.03) * x.double()


def test_50_linear_quadratic_steps_stand_for_250_linear_ones():
    noise = torch.randn(SHAPE, generator=generator(1))

    def run(sampler):
        return sampler.sample(denoiser(field_with_a_busy_start), SHAPE, generator(), noise=noise)

    fine = run(Euler(EulerConfig(steps=20_000, guidance=1)))
    far = run(Euler(EulerConfig(steps=50, guidance=1))) - fine
    near = run(LinearQuadratic(LinearQuadraticConfig(steps=50, guidance=1))) - fine
    many = run(Euler(EulerConfig(steps=250, guidance=1))) - fine
    assert near.abs().max() < 1.3 * many.abs().max() < 0.5 * far.abs().max()


def test_shift_moves_steps_towards_noise_and_keeps_the_ends():
    times = Euler(EulerConfig(steps=4, shift=3.0)).times()
    assert times == pytest.approx([0, 0.1, 0.25, 0.5, 1.0])
    assert Euler(EulerConfig(steps=7)).times() == schedules.linear(7)


# ------------------------------------------------------------------------------------------------ guidance

TERMS = {
    frozenset({"text", "face"}): 1.0,
    frozenset({"text"}): 10.0,
    frozenset({"face"}): 100.0,
    frozenset(): 1000.0,
}


class Constant:
    """A denoiser whose prediction depends only on what is dropped; it keeps what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, x, t, branches):
        self.asked.append((t[0].item(), list(branches)))
        return [torch.full_like(x, TERMS[branch]) for branch in branches]


def moved(config, conditions=("text", "face")):
    denoise = Constant()
    out = Euler(config).sample(denoise, SHAPE, generator(), conditions=conditions, noise=torch.zeros(SHAPE))
    return out.flatten()[0].item(), denoise.asked


def test_a_plain_scale_drops_all_conditions_together():
    value, asked = moved(EulerConfig(steps=1, guidance=7.5))
    assert value == pytest.approx(1 + 7.5 * (1000 - 1))
    assert asked == [(0.0, [frozenset({"text", "face"}), frozenset()])]


def test_scales_nest_in_their_order():
    value, _ = moved(EulerConfig(steps=1, guidance_scales={"text": 3.0, "face": 2.0}))
    assert value == pytest.approx(1 + 3 * (100 - 1) + 2 * (1000 - 100))
    value, _ = moved(EulerConfig(steps=1, guidance_scales={"face": 2.0, "text": 3.0}))
    assert value == pytest.approx(1 + 2 * (10 - 1) + 3 * (1000 - 10))


def test_a_condition_without_a_scale_is_never_dropped():
    value, asked = moved(EulerConfig(steps=1, guidance_scales={"text": 3.0}))
    assert value == pytest.approx(10 + 3 * (1000 - 10))
    assert asked[0][1] == [frozenset({"text"}), frozenset()]


@pytest.mark.parametrize("settings", [{"guidance": 1.0}, {"guidance_scales": {"text": 1.0, "face": 1.0}}])
def test_a_scale_of_one_costs_no_branch(settings):
    value, asked = moved(EulerConfig(steps=1, **settings))
    assert value == 1000 and asked[0][1] == [frozenset()]


def test_branches_that_cancel_are_left_out():
    assert nested_branches(("text", "face"), {"text": 3.0, "face": 3.0}) == joint_branches(("text", "face"), 3.0)
    assert joint_branches((), 7.5) == [(frozenset(), 1.0)]
    assert joint_branches(("text",), 0.0) == [(frozenset({"text"}), 1.0)]


@pytest.mark.parametrize("scales", [{"text": 0.3}, {"text": 7.5, "face": 1.5}, {"face": 2.0, "text": 1.0}])
def test_weights_sum_to_one(scales):
    assert sum(weight for _, weight in nested_branches(("text", "face"), scales)) == pytest.approx(1.0)


def test_guidance_holds_within_its_interval_only():
    _, asked = moved(EulerConfig(steps=4, guidance=3.0, guidance_from=0.25, guidance_to=0.5))
    assert [(t, len(branches)) for t, branches in asked] == [(0.0, 1), (0.25, 2), (0.5, 2), (0.75, 1)]


def test_an_unknown_condition_is_named():
    with pytest.raises(MgzooError) as caught:
        moved(EulerConfig(steps=1, guidance_scales={"text": 3.0, "txet": 2.0}))
    assert str(caught.value) == (
        "unknown conditions in guidance_scales: txet; the conditions are text, face\n"
        "    -> use only conditions of the model in the sampler's `guidance_scales`"
    )


# ------------------------------------------------------------------------------------------------ the walk

SAMPLERS = [
    Euler(EulerConfig.tiny()),
    Midpoint(MidpointConfig.tiny()),
    LinearQuadratic(LinearQuadraticConfig.tiny()),
    Ddim(DdimConfig.tiny()),
]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_noise_comes_from_the_generator_and_the_state_is_float32(sampler):
    assert isinstance(sampler, Sampler)

    def denoise(x, t, branches):
        assert x.dtype == t.dtype == torch.float32 and t.shape == (2,)
        return [(x * 0.5).bfloat16() for _ in branches]

    torch.manual_seed(1)
    first = sampler.sample(denoise, SHAPE, generator(3), conditions=("text",))
    torch.manual_seed(2)
    assert torch.equal(first, sampler.sample(denoise, SHAPE, generator(3), conditions=("text",)))
    given = sampler.sample(denoise, SHAPE, generator(8), conditions=("text",), noise=torch.randn(SHAPE, generator=generator(3)))
    assert torch.equal(first, given) and first.dtype == torch.float32
    assert not torch.equal(first, sampler.sample(denoise, SHAPE, generator(4), conditions=("text",)))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("shape", [(1, 4, 1, 3, 5), (2, 8, 7)])
def test_any_number_of_axes_and_one_call_per_step(sampler, shape):
    heard, calls = [], []

    def denoise(x, t, branches):
        calls.append(t[0].item())
        return [x for _ in branches]

    out = sampler.sample(denoise, shape, generator(), conditions=("text",), on_step=lambda step, steps: heard.append((step, steps)))
    assert out.shape == shape and heard == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(calls) == (8 if isinstance(sampler, Midpoint) else 4)
    assert calls[0] == 0.0 and all(t < 1 for t in calls)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_says_what_it_integrates(sampler):
    assert sampler.config.prediction_types() == (("v",) if isinstance(sampler, Ddim) else ("velocity",))


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (EulerConfig, {"steps": 0}, "steps must be at least 1, not 0"),
        (EulerConfig, {"shift": 0.0}, "shift must be positive, not 0.0"),
        (EulerConfig, {"guidance_from": 0.6, "guidance_to": 0.5}, "guidance_from and guidance_to must be in [0, 1] and in order, not 0.6 and 0.5"),
        (MidpointConfig, {"guidance_to": 1.5}, "guidance_from and guidance_to must be in [0, 1] and in order, not 0.0 and 1.5"),
        (LinearQuadraticConfig, {"steps": 300}, "linear_steps (250) must be at least steps (300)"),
        (LinearQuadraticConfig, {"continuity": "cubic"}, "continuity must be slope or square, not 'cubic'"),
        (DdimConfig, {"schedule": "linear"}, "schedule must be one of ('scaled_linear', 'cosine'), not 'linear'"),
    ],
)
def test_nonsense_is_refused(config, settings, message):
    with pytest.raises(ValueError) as caught:
        config(**settings)
    assert str(caught.value) == message
