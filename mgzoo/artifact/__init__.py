"""What a saved model is: files, digests, tensors. No recipe, no model, no network."""
