"""The whole extension surface: implement any of these with `mgzoo.hookimpl` in a plugin."""

from __future__ import annotations

import pluggy

hookspec = pluggy.HookspecMarker("mgzoo")
hookimpl = pluggy.HookimplMarker("mgzoo")


@hookspec
def mgzoo_components():
    """Return a list of `mgzoo.spec.Component`, declared by strings."""


@hookspec
def mgzoo_recipes():
    """Return a folder (`pathlib.Path`) of recipes that ship with the plugin."""


@hookspec
def mgzoo_check(recipe):
    """Return a list of `mgzoo.spec.Problem` for a composed recipe; torch must not be imported."""


@hookspec
def mgzoo_card(model):
    """Return a mapping of heading -> Markdown to add to a model card."""


@hookspec
def mgzoo_step(run, step, metrics):
    """Called on rank 0 after each optimiser step with the step's metrics."""


@hookspec
def mgzoo_saved(run, path):
    """Called on rank 0 after a checkpoint or an artifact has been written to `path`."""


@hookspec
def mgzoo_commands():
    """Return a list of (name, help, ``module:function``): verbs for the command line, imported when used."""
