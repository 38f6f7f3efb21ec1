"""Backbones: transformers over latent patches of any rank."""
