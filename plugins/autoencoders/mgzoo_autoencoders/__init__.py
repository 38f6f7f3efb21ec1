"""Autoencoders of mgzoo: Movie Gen's temporal autoencoder, a framewise one, and the task that trains them."""
