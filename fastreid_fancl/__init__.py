"""Feature-Aware Noise Contrastive Learning for fast-reid: importing this package registers everything."""

from . import compat

compat.apply()
