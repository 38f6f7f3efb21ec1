"""Personalization: a subject's picture as a condition of the video."""
