"""The way of a first day, by commands alone: data, training, registry, dynamics, report."""

import json

import pytest
from typer.testing import CliRunner

from asecalc_ml.cli import md, ml
from asecalc_ml.runs import RunReader

pytest.importorskip("tblite", reason="data are labelled with GFN2-xTB: pip install 'asecalc-ml[reference]'")

TRAINING = """
name: water
data: {format: ase, path: water.xyz, level_of_theory: GFN2-xTB, citation: Bannwarth 2019}
split: {n_train: 24, n_validation: 8, n_test: 8}
model: {architecture: equivariant-transformer, hidden_channels: 16, n_layers: 1, n_rbf: 16, n_heads: 2}
optimizer: {warmup_steps: 10, ema_decay: 0.9, learning_rate: 3e-3}
max_epochs: 60
"""

RUN = """
protocol: nve
structure: water
calculator: water
directory: runs/water
temperature_K: 100
steps: 200
equilibration_ps: 0.05
analyses: {bond-lengths: {patterns: [H-O]}, angles: {patterns: [H-O-H]}, energy-drift: , temperature: }
"""


def call(app, *words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.smoke
def test_from_data_to_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(ml.app, "data", "generate", "water", "--temperatures-K", "[300]", "--n-frames", "40",
         "--interval-fs", "10", "--equilibration-ps", "0.1", "--output", "water.xyz", "--quiet")  # fmt: skip
    (tmp_path / "train.yaml").write_text(TRAINING)
    (tmp_path / "nve.yaml").write_text(RUN)

    call(ml.app, "train", "train.yaml", "--quiet")
    assert "water" in call(ml.app, "models", "list")
    assert "GFN2-xTB" in call(ml.app, "models", "show", "water")
    assert "Bannwarth" in call(ml.app, "models", "cite", "water")
    assert "meV/Å" in call(ml.app, "eval", "water", "water.xyz")
    call(ml.app, "models", "export", "water", "copy.safetensors")
    call(ml.app, "models", "remove", "water", "--yes")
    call(ml.app, "models", "add", "copy.safetensors")

    call(md.app, "validate", "nve.yaml")
    call(md.app, "run", "nve.yaml", "--quiet")
    run = RunReader("runs/water")
    assert run.n_frames == 21
    lengths = json.loads((tmp_path / "runs/water/results/bond-lengths.json").read_text())
    assert lengths["patterns"][0]["n_frames"] == 21
    page = (tmp_path / "runs/water/report.html").read_text()
    assert "H-O-H" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
