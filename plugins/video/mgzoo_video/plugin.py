"""Declares the parts of this plugin; imports none of them."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="video.clips.v1",
            kind="data",
            config="mgzoo_video.configs:ClipsConfig",
            target="mgzoo_video.clips:Clips",
            summary="captioned clips and images from a folder or tar shards",
        ),
        Component(
            id="video.text_to_video.v1",
            kind="task",
            config="mgzoo_video.configs:TextToVideoConfig",
            target="mgzoo_video.text_to_video:TextToVideo",
            summary="text to video and image (Movie Gen, section 3)",
        ),
        Component(
            id="video.shapes.v1",
            kind="data",
            config="mgzoo_video.configs:ShapesConfig",
            target="mgzoo_video.shapes:Shapes",
            summary="moving shapes with captions, generated on the fly; no files",
        ),
    ]
