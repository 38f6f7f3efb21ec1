"""What this plugin declares: strings only, so that listing it imports nothing."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="frozen.patches.v1",
            kind="autoencoder",
            config="mgzoo_frozen.autoencoder.configs:PatchesConfig",
            target="mgzoo_frozen.autoencoder.patches:Patches",
            summary="linear codec of patches, fitted to the data, with a small network after it",
            license="mit",
        ),
        Component(
            id="frozen.mixer.v1",
            kind="backbone",
            config="mgzoo_frozen.backbone.configs:MixerConfig",
            target="mgzoo_frozen.backbone.mixer:Mixer",
            summary="small convolutional mixer over patches of any rank",
            license="mit",
        ),
        Component(
            id="frozen.stripes.v1",
            kind="data",
            config="mgzoo_frozen.data.configs:StripesConfig",
            target="mgzoo_frozen.data.stripes:Stripes",
            summary="moving stripes with captions, drawn as they are needed; no files",
            license="mit",
        ),
        Component(
            id="frozen.words.v1",
            kind="encoder",
            config="mgzoo_frozen.encoder.configs:WordsConfig",
            target="mgzoo_frozen.encoder.words:Words",
            summary="text encoder of hashed words; trains with the model",
            license="mit",
        ),
        Component(
            id="frozen.flicker.v1",
            kind="metric",
            config="mgzoo_frozen.metric.configs:FlickerConfig",
            target="mgzoo_frozen.metric.flicker:Flicker",
            summary="how much brightness or loudness jumps from moment to moment",
            license="mit",
        ),
        Component(
            id="frozen.weighted_flow.v1",
            kind="objective",
            config="mgzoo_frozen.objective.configs:WeightedFlowConfig",
            target="mgzoo_frozen.objective.weighted_flow:WeightedFlow",
            summary="rectified flow with uniform times, weighted towards noise",
            license="mit",
        ),
        Component(
            id="frozen.heun.v1",
            kind="sampler",
            config="mgzoo_frozen.sampler.configs:HeunConfig",
            target="mgzoo_frozen.sampler.heun:Heun",
            summary="Heun's method with equal steps, two evaluations each",
            license="mit",
        ),
        Component(
            id="frozen.boomerang.v1",
            kind="task",
            config="mgzoo_frozen.task.configs:BoomerangConfig",
            target="mgzoo_frozen.task.boomerang:Boomerang",
            summary="text to a clip that plays forwards, then backwards: a loop without a seam",
            license="mit",
        ),
    ]
