"""The artifact format: files, digests, tensors. No recipe, no model, no network."""
