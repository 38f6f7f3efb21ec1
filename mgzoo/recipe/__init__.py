"""What a person wants: YAML layers, composed, validated, locked. No torch; nothing is downloaded."""

from mgzoo.recipe.compose import compose
from mgzoo.recipe.recipe import Recipe

__all__ = ["Recipe", "compose"]
