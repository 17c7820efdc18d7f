"""The experiment on relevance on nitrogen, on few molecules, and how it decides."""

import json
import runpy
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from places import ROOT

from asecalc_ml.plugins import get
from asecalc_ml.statistics.permutation import BlockedDifference
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained

FOLDER = ROOT / "docs" / "experiments"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the experiments are part of the checkout alone")


@pytest.fixture
def experiment(monkeypatch):
    pytest.importorskip("rdkit", reason="pip install 'asecalc-ml[molecules]'")
    monkeypatch.syspath_prepend(str(FOLDER))
    return runpy.run_path(str(FOLDER / "qm9_relevance.py"))


def difference(superiority, error=0.01):
    return BlockedDifference(100, 1.0, 0.1, superiority, error, 5.0, 0.001)


def test_verdicts(experiment):
    """A small effect, surely, and more than a further untrained network would have."""
    decide = experiment["verdict"]
    untrained = [0.50, 0.52, 0.48, 0.51, 0.49]
    spread = np.std(untrained, ddof=1) * np.sqrt(1.2) * 2.776  # Student's t, 4 degrees of freedom
    word, highest = decide(difference(0.7), 0.001, untrained)
    assert word == "confirmed"
    assert highest == pytest.approx(0.5 + spread, abs=1e-3)
    assert decide(difference(0.7), 0.02, untrained)[0] == "undecided"
    assert decide(difference(0.53), 0.001, untrained)[0] == "not confirmed"  # smaller than a small effect
    assert decide(difference(0.7), 0.001, [0.3, 0.9, 0.5])[0] == "undecided"
    assert decide(difference(0.7), 0.001, [0.8, 0.9])[0] == "not confirmed"
    assert decide(difference(0.7), 0.001, [])[0] == "undecided"


def test_holm_is_that_by_hand(experiment):
    corrected = experiment["holm"]({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


@pytest.mark.slow  # reads all of QM9
@pytest.mark.skipif(find_spec("qm9pack") is None, reason="pip install --no-deps qm9pack")
def test_the_experiment_runs(experiment, tmp_path, monkeypatch):
    options = get("architectures", "schnet")(n_atom_basis=8, n_interactions=1)
    elements = ["C", "F", "H", "N", "O"]
    register_untrained("tiny-schnet", options, load_structure("ethanol"), elements=elements)
    output = tmp_path / "relevance.json"
    arguments = "tiny-schnet --molecules 30 --untrained 2 --permutations 19 --output"
    monkeypatch.setattr(sys, "argv", ["qm9_relevance.py", *arguments.split(), str(output)])
    experiment["main"]()
    tables = json.loads(output.read_text())["tables"]
    first = next(iter(tables.values()))
    assert {row["method"] for row in first} >= {"saliency", "cam", "grad-cam, rectified", "lrp", "occlusion"}
    assert all(0 <= row["superiority of the size"] <= 1 for row in first)
    assert {row["verdict"] for row in first} <= {"confirmed", "not confirmed", "undecided"}
