"""A recipe, built: its parts wired together, ready to train, to generate, to save. Importing it imports torch."""

from mgzoo.model.build import build
from mgzoo.model.generate import generate
from mgzoo.model.load import load
from mgzoo.model.model import Model
from mgzoo.model.save import save

Model.generate, Model.save = generate, save  # here, so that model.py, which they need, never imports them

__all__ = ["Model", "build", "generate", "load", "save"]
