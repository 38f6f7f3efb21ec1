"""Recipes: YAML layers, composition, validation, locks. No torch, no downloads."""

from mgzoo.recipe.compose import compose
from mgzoo.recipe.recipe import Recipe

__all__ = ["Recipe", "compose"]
