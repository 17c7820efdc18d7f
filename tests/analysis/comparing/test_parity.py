"""Predicted against labelled values: numbers, files and figures."""

import csv
import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from asecalc_ml.analysis.comparing.parity import Parity, ParityQuantity
from asecalc_ml.targets.target import Quantity

HOMO = Quantity(name="homo", unit="eV", kind="intensive scalar", pooling="mean")


def parity(n_structures: int = 30) -> Parity:
    random = np.random.default_rng(0)
    labelled = random.normal(-6, 0.6, (n_structures, 1))
    predicted = labelled + random.normal(0, 0.1, labelled.shape)
    names = [f"molecules.xyz, frame {k}" for k in range(n_structures)]
    return Parity(
        model="my-homo", on="molecules", quantities=[ParityQuantity.of(HOMO, names, labelled, predicted)]
    )


def test_errors_are_those_of_the_points():
    homo = parity().quantities[0]
    labelled, predicted = np.ravel(homo.labelled), np.ravel(homo.predicted)
    assert homo.mae == pytest.approx(np.abs(predicted - labelled).mean())
    assert homo.r2 == pytest.approx(1 - ((predicted - labelled) ** 2).sum() / (labelled.var() * 30))
    flat = ParityQuantity.of(HOMO, ["a", "b"], np.ones((2, 1)), np.zeros((2, 1)))
    assert flat.r2 is None


@pytest.mark.parametrize("n_structures", [30, 2000])
def test_points_lie_where_the_numbers_say(n_structures):
    result = parity(n_structures)
    ax = result.plot(Figure().add_subplot())
    line, points = ax.lines
    assert list(line.get_xdata()) == list(line.get_ydata()) == list(ax.get_xlim()) == list(ax.get_ylim())
    assert points.get_xdata().tolist() == np.ravel(result.quantities[0].labelled).tolist()
    assert points.get_ydata().tolist() == np.ravel(result.quantities[0].predicted).tolist()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("labelled homo (eV)", "predicted homo (eV)")
    assert f"MAE {result.quantities[0].mae:.3g} eV" in ax.texts[0].get_text()


def test_files(tmp_path):
    result = parity()
    paths = result.write(tmp_path)
    assert [path.name for path in paths] == ["parity.json", "parity_homo.csv", "parity-homo.png"]
    assert Parity.model_validate(json.loads(paths[0].read_text())) == result
    rows = list(csv.reader(paths[1].read_text().splitlines()))
    assert rows[0] == ["structure", "labelled (eV)", "predicted (eV)"]
    assert [float(row[2]) for row in rows[1:]] == np.ravel(result.quantities[0].predicted).tolist()


def test_components_of_a_vector_share_a_figure():
    dipole = Quantity(name="dipole", unit="e Angstrom", kind="vector", pooling="sum")
    labelled = np.random.default_rng(1).normal(size=(4, 3))
    values = ParityQuantity.of(dipole, list("abcd"), labelled, labelled)
    result = Parity(model="m", on="d", quantities=[values])
    assert result.data()[0].columns[1] == "labelled x (e Angstrom)"
    assert len(result.plot(Figure().add_subplot()).lines[1].get_xdata()) == 12
