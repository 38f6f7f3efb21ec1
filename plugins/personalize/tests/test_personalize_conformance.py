"""The laws of mgzoo's parts, held against this plugin."""

from mgzoo.testing import conformance

TestPersonalize = conformance("personalize")
