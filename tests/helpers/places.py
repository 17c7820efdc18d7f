"""Folders that tests read."""

from pathlib import Path

HELPERS = Path(__file__).resolve().parent
TESTS = HELPERS.parent
ROOT = TESTS.parent
EXAMPLES = ROOT / "examples"
#: Real reference data, beside the checkout where there are any.
SHARED = ROOT.parent / "shared"
