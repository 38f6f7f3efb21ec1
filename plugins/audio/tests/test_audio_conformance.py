"""The public conformance kit, held against this plugin."""

from mgzoo.testing import conformance

TestAudio = conformance("audio")
