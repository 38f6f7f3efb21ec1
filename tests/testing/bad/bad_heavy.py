"""A config that is not free: its module imports numpy."""

import numpy

from mgzoo.testing.reference_configs import EqualConfig


class HeavyConfig(EqualConfig):
    numbers = numpy.float32
