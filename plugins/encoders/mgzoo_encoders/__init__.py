"""Encoders: from text and pictures to the conditions of a backbone."""
