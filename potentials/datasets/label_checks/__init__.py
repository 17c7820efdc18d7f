"""A summary of labels, and warnings where they contradict themselves."""

from asecalc_ml.potentials.datasets.label_checks.examine import examine
from asecalc_ml.potentials.datasets.label_checks.report import LabelReport

__all__ = ["LabelReport", "examine"]
