"""A plugin for mgzoo; what it declares is in `plugin`."""
