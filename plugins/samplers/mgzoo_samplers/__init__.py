"""Objectives (what a backbone learns to predict) and samplers (how latents are made from it)."""
