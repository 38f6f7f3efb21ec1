"""What this plugin declares; strings only."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="encoders.bytes.v1",
            kind="encoder",
            config="mgzoo_encoders.configs:BytesConfig",
            target="mgzoo_encoders.bytes:Bytes",
            summary="small text encoder of hashed words or bytes; needs no download and trains with the model",
        ),
        Component(
            id="encoders.t5.v1",
            kind="encoder",
            config="mgzoo_encoders.configs:T5Config",
            target="mgzoo_encoders.t5:T5",
            summary="T5 family encoder, UL2 by default, from weights in transformers format",
        ),
        Component(
            id="encoders.byt5.v1",
            kind="encoder",
            config="mgzoo_encoders.configs:ByT5Config",
            target="mgzoo_encoders.t5:ByT5",
            summary="ByT5 encoder of the text in double quotes (visual text)",
        ),
        Component(
            id="encoders.metaclip.v1",
            kind="encoder",
            config="mgzoo_encoders.configs:MetaClipConfig",
            target="mgzoo_encoders.metaclip:MetaClip",
            summary="MetaCLIP or CLIP text tower, from weights in transformers format",
        ),
        Component(
            id="encoders.metaclip_vision.v1",
            kind="encoder",
            config="mgzoo_encoders.configs:MetaClipVisionConfig",
            target="mgzoo_encoders.metaclip:MetaClipVision",
            summary="MetaCLIP or CLIP vision tower: tokens of a picture, or one embedding per frame",
        ),
        Component(
            id="encoders.patches.v1",
            kind="encoder",
            config="mgzoo_encoders.configs:PatchesConfig",
            target="mgzoo_encoders.patches:Patches",
            summary="small vision encoder of a picture's patches; needs no download and trains with the model",
        ),
    ]
