"""Recipes: YAML layers, composition, validation, locks. No torch, no downloads."""
