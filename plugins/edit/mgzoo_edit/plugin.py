"""Declares the parts of this plugin; imports none of them."""

from mgzoo.hooks import hookimpl
from mgzoo.spec import Component


@hookimpl
def mgzoo_components():
    return [
        Component(  # of mgzoo-emoji: recipes and artifacts name it by this id, which only this namespace's plugin may declare
            id="edit.pairs.v1",
            kind="data",
            config="mgzoo_emoji.configs:PairsConfig",
            target="mgzoo_emoji.pairs:Pairs",
            summary="editing pairs made of animated emoji, mixed with captioned clips",
        ),
        Component(
            id="edit.instruct.v1",
            kind="task",
            config="mgzoo_edit.configs:InstructConfig",
            target="mgzoo_edit.instruct:Instruct",
            summary="instruction-guided editing of a clip or a picture (Movie Gen Edit, section 5)",
        ),
        Component(
            id="edit.sdedit.v1",
            kind="task",
            config="mgzoo_edit.configs:SdeditConfig",
            target="mgzoo_edit.sdedit:Sdedit",
            summary="edit with any text-to-video model, from a noised source (SDEdit)",
        ),
        Component(
            id="edit.direction.v1",
            kind="filter",
            config="mgzoo_edit.configs:DirectionConfig",
            target="mgzoo_edit.direction:Direction",
            summary="change inside the edited region and preservation of the rest",
        ),
    ]
