"""The public laws, held against this plugin."""

from mgzoo.testing import conformance

TestEdit = conformance("edit")
