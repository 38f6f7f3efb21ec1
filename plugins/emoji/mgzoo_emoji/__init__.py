"""Toy data of animated emoji: edits drawn as pairs of composed scenes, with the instructions that describe them."""
