"""Checks that a test class inherits, so that every plugin is held to the same laws as ours.

Nothing here is imported by the package itself; it needs pytest (``pip install 'asecalc-ml[test]'``).
"""

from asecalc_ml.testing.models import register_untrained, untrained_card, untrained_model
from asecalc_ml.testing.potentials import PotentialChecks

__all__ = ["PotentialChecks", "register_untrained", "untrained_card", "untrained_model"]
