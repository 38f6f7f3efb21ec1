"""A config that is not free: its module imports numpy."""

import numpy

from mgzoo.testing.reference_configs import ReferenceSamplerConfig


class HeavyConfig(ReferenceSamplerConfig):
    numbers = numpy.float32
