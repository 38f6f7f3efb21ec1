"""Declares the parts of this plugin; imports none of them."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(
            id="personalize.reference.v1",
            kind="task",
            config="mgzoo_personalize.configs:ReferenceConfig",
            target="mgzoo_personalize.reference:Reference",
            summary="text to video with the subject of a reference picture (Movie Gen, section 4)",
        ),
        Component(
            id="personalize.pairs.v1",
            kind="data",
            config="mgzoo_personalize.configs:PairsConfig",
            target="mgzoo_personalize.pairs:Pairs",
            summary="clips with a reference picture of their subject, from the clip or another picture, mixed by ratio",
        ),
        Component(
            id="personalize.faces.v1",
            kind="filter",
            config="mgzoo_personalize.configs:FacesConfig",
            target="mgzoo_personalize.identity_filters:Faces",
            summary="size of the only face or subject of a clip, examined once per second",
        ),
        Component(
            id="personalize.one_identity.v1",
            kind="filter",
            config="mgzoo_personalize.configs:OneIdentityConfig",
            target="mgzoo_personalize.identity_filters:OneIdentity",
            summary="minimum similarity of the face or subject between neighbouring seconds",
        ),
    ]
