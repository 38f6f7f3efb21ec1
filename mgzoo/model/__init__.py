"""A recipe, built: its parts wired together, ready to train, to generate, to save. Importing it imports torch."""

from mgzoo.model.build import build
from mgzoo.model.load import load
from mgzoo.model.model import Model
from mgzoo.model.save import save

Model.save = save  # here, so that model.py, which save.py needs, never imports it

__all__ = ["Model", "build", "load", "save"]
