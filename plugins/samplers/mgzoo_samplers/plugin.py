"""What this plugin declares, and what only it can check; no torch."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component, Problem


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="samplers.flow_matching.v1",
            kind="objective",
            config="mgzoo_samplers.configs:FlowMatchingConfig",
            target="mgzoo_samplers.flow_matching:FlowMatching",
            summary="flow matching on straight paths, t logit-normal; predicts velocity",
        ),
        Component(
            id="samplers.v_diffusion.v1",
            kind="objective",
            config="mgzoo_samplers.configs:VDiffusionConfig",
            target="mgzoo_samplers.v_diffusion:VDiffusion",
            summary="diffusion with zero terminal SNR; predicts v",
        ),
        Component(
            id="samplers.euler.v1",
            kind="sampler",
            config="mgzoo_samplers.configs:EulerConfig",
            target="mgzoo_samplers.samplers:Euler",
            summary="first-order solver of the flow, equal steps",
        ),
        Component(
            id="samplers.midpoint.v1",
            kind="sampler",
            config="mgzoo_samplers.configs:MidpointConfig",
            target="mgzoo_samplers.samplers:Midpoint",
            summary="second-order solver of the flow, equal steps, two evaluations each",
        ),
        Component(
            id="samplers.linear_quadratic.v1",
            kind="sampler",
            config="mgzoo_samplers.configs:LinearQuadraticConfig",
            target="mgzoo_samplers.samplers:LinearQuadratic",
            summary="Euler with few steps in place of many: linear, then quadratic",
        ),
        Component(
            id="samplers.ddim.v1",
            kind="sampler",
            config="mgzoo_samplers.configs:DdimConfig",
            target="mgzoo_samplers.samplers:Ddim",
            summary="deterministic DDIM for models that predict v",
        ),
    ]


@hookimpl
def mgzoo_check(recipe):
    """Settings of our samplers that only the rest of the recipe can prove wrong."""
    sampler, objective = recipe.parts.get("sampler"), recipe.parts.get("objective")
    if sampler is None or sampler.component.namespace != "samplers":
        return []
    problems = []

    def problem(field: str, what: str, remedy: str) -> None:
        key = f"parts.sampler.config.{field}"
        said = recipe.origins.get(key) or recipe.origins.get("parts.sampler.use") or [None]
        problems.append(Problem(what=what, remedy=remedy, key=key, origin=said[-1] and said[-1].origin, kind="sampler"))

    if objective is not None and (objective.component.id, sampler.component.id) == ("samplers.v_diffusion.v1", "samplers.ddim.v1"):
        trained, sampled = objective.config.schedule, sampler.config.schedule
        if trained != sampled:
            problem("schedule", f"the noise schedule of the sampler is {sampled}, but that of the objective is {trained}", f"set it to {trained}")
    task = recipe.parts.get("task")
    names = [name.removeprefix("encoders.") for name in recipe.parts if name.startswith("encoders.")]
    names += [condition.name for condition in task.config.conditions()] if task is not None else []
    names += task.config.fed() if hasattr(task and task.config, "fed") else ()  # what it feeds on channels can be dropped too
    for name in sampler.config.guidance_scales:
        if name not in names:
            problem("guidance_scales", f"unknown condition {name}", f"the conditions are {', '.join(names) or 'none'}")
    return problems
