"""Several ensembles in one trajectory."""

import numpy as np
import pytest
from ase.build import molecule
from pydantic import ValidationError
from raising import told
from typer.testing import CliRunner

from asecalc_ml.analysis.pipeline import read_results
from asecalc_ml.cli import md
from asecalc_ml.config.options import dump_yaml
from asecalc_ml.errors import ConfigError, StructureError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.sequence import Sequence
from asecalc_ml.runs import RunReader

ETHANE = {
    "structure": "C2H6",
    "calculator": {"toy_calculators:Springs": {"molecule_name": "C2H6", "stiffness": 2.0}},
    "relax": False,
    "equilibration_ps": 0.05,
}
HEAT_AND_HOLD = [
    {
        "ensemble": "nvt",
        "temperature_K": 300,
        "temperature_end_K": 900,
        "steps": 100,
        "thermostat": "bussi",
        "thermostat_time_fs": 20,
    },
    {"ensemble": "nvt", "thermostat": "langevin", "temperature_K": 900, "steps": 60},
    {"ensemble": "nve", "steps": 40},
]


def test_parts_follow_each_other_in_one_trajectory(tmp_path):
    options = Sequence(**ETHANE, sequence=HEAT_AND_HOLD, write_every=5, thermo_every=10)
    run = options.run(directory=tmp_path / "run", quiet=True)
    thermo = run.read_thermo()
    assert thermo["step"].tolist() == list(range(0, 201, 10))
    assert thermo["time_fs"] == pytest.approx(0.5 * thermo["step"])
    assert run.n_frames == 41
    assert np.isfinite(thermo["conserved_eV"][:11]).all()
    assert np.isnan(thermo["conserved_eV"][11:]).all()
    assert np.ptp(thermo["total_eV"][17:]) < 0.01 * np.ptp(
        thermo["total_eV"][:11]
    )  # constant energy at the end
    assert [event["kind"] for event in run.read_events() if event["kind"] in ("stage", "finished")] == [
        "stage", "stage", "finished",
    ]  # fmt: skip
    steps = np.linalg.norm(np.diff(np.concatenate(list(run.chunks())), axis=0), axis=-1).max(axis=1)
    assert steps.max() < 5 * np.median(steps)  # nothing jumps at the joints


def test_a_sequence_of_one_is_that_protocol(tmp_path):
    plain = NVE(**ETHANE | {"equilibration_ps": 0}, steps=50, timestep_fs=0.5)
    alone = Sequence(**ETHANE | {"equilibration_ps": 0}, sequence=[{"ensemble": "nve", "steps": 50}])
    runs = [o.run(directory=tmp_path / n, quiet=True) for n, o in (("a", plain), ("b", alone))]
    assert np.array_equal(*(np.concatenate(list(run.chunks())) for run in runs))


@pytest.mark.parametrize("call", [60, 150, 230, 290])
def test_resumed_in_any_part(call, tmp_path, monkeypatch):
    import toy_calculators

    options = Sequence(**ETHANE, sequence=HEAT_AND_HOLD, write_every=5, checkpoint_every=30)
    straight = options.run(directory=tmp_path / "straight", quiet=True)
    calculate = toy_calculators.Springs.calculate

    def interrupted(self, *args, **kwargs):
        calculate(self, *args, **kwargs)
        if self.calls == call:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(toy_calculators.Springs, "calculate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            options.run(directory=tmp_path / "run", quiet=True)
    run = resume_run(tmp_path / "run", quiet=True)
    for name in ("trajectory.traj", "thermo.csv", "equilibration.csv"):
        assert (run.directory / name).read_bytes() == (straight.directory / name).read_bytes(), name


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"ensemble": "nvr"}, "`ensemble` is one of .*npt, nve, nvt"),
        ({"ensemble": ["nvt"]}, "`ensemble` is one of .*npt, nve, nvt"),
        ({"ensemble": "relax"}, "`ensemble` is one of .*npt, nve, nvt"),
        ({"ensemble": "nvt", "timestep_fs": 1.0}, "timestep_fs belongs to the whole"),
        ({"ensemble": "nvt", "stepz": 10}, "stepz"),
    ],
)
def test_parts_that_make_no_sense(part, said):
    with pytest.raises((ValidationError, ConfigError), match=said):
        Sequence(**ETHANE, sequence=[part])


def test_parts_take_the_temperature_at_which_the_one_before_ends(tmp_path):
    parts = [
        {"ensemble": "nvt", "temperature_end_K": 900, "steps": 10},
        {"ensemble": "nvt", "steps": 10},
        {"ensemble": "nvt", "temperature_K": 400, "steps": 10},
        {"ensemble": "nve", "steps": 10},
    ]
    options = Sequence(**ETHANE | {"temperature_K": 700}, sequence=parts, write_every=10)
    assert [part.temperature_K for part in options.parts] == [700, 900, 400, 400]


def test_an_energy_that_heating_has_raised_is_none_that_blew_up(tmp_path):
    """A constant-energy part is held against its own beginning."""
    parts = [
        {
            "ensemble": "nvt",
            "temperature_end_K": 12000,
            "thermostat": "bussi",
            "thermostat_time_fs": 5,
            "steps": 400,
        },
        {"ensemble": "nve", "steps": 20},
    ]
    options = Sequence(**ETHANE | {"timestep_fs": 0.1}, sequence=parts, write_every=10)
    run = options.run(directory=tmp_path / "run", quiet=True)
    assert run.finished
    total = run.read_thermo()["total_eV"]
    assert total[-3] - total[0] > 8  # 1 eV for each atom
    (last,) = (event["message"] for event in run.read_events() if event["kind"] == "finished")
    assert "target" not in last


def test_joints_lie_on_frames():
    with pytest.raises(ValidationError, match="95 steps of one part are no multiple"):
        Sequence(**ETHANE, sequence=[{"ensemble": "nve", "steps": 95}, {"ensemble": "nve", "steps": 95}])


def test_every_part_is_checked_against_the_structure(tmp_path):
    options = Sequence(
        **ETHANE, sequence=[{"ensemble": "nve", "steps": 10}, {"ensemble": "npt", "steps": 10}]
    )
    with pytest.raises(StructureError, check=told(value=[False] * 3, remedy="protocol nvt")):
        options.run(directory=tmp_path / "run", quiet=True)


def test_given_velocities_that_cannot_be_scaled_are_refused(tmp_path):
    atoms = molecule("C2H6")
    atoms.set_velocities(np.ones((8, 3)))  # all atoms alike
    own = ETHANE | {"velocities": "structure", "equilibration_ps": 0}
    options = Sequence(**own, sequence=[{"ensemble": "nvt", "thermostat": "bussi", "steps": 10}])
    with pytest.raises(StructureError, check=told(value="bussi", remedy="velocities: thermal")):
        options.run(atoms, tmp_path / "run", quiet=True)


def test_from_yaml_with_a_report(tmp_path):
    file = tmp_path / "anneal.yaml"
    file.write_text(
        "protocol: sequence\nstructure: C2H6\ncalculator: {toy_calculators:Springs: {molecule_name: C2H6}}\n"
        f"equilibration_ps: 0\nrelax: false\ndirectory: {tmp_path / 'run'}\nsequence:\n"
        "  - {ensemble: nvt, steps: 50}\n  - {ensemble: nve, steps: 50}\n"
    )
    result = CliRunner().invoke(md.app, ["run", str(file), "--quiet"])
    assert result.exit_code == 0, result.output
    assert "The run is complete: 100 steps" in (tmp_path / "run" / "report.html").read_text()
    file.write_text(file.read_text().replace("nvt, steps", "nvt, stepz"))
    result = CliRunner().invoke(md.app, ["validate", str(file)])
    assert result.exit_code == 2
    assert "stepz" in result.output


def test_each_part_is_judged_by_what_it_conserves(tmp_path):
    """Of a thermostat's part that is the conserved quantity, at constant energy the total energy."""
    analyses = ["bond-lengths", "angles", "connectivity", "temperature", "energy-drift"]
    file = tmp_path / "mixed.yaml"
    options = ETHANE | {
        "protocol": "sequence",
        "equilibration_ps": 0,
        "sequence": [
            {"ensemble": "nvt", "thermostat": "bussi", "steps": 50},
            {"ensemble": "nve", "steps": 50},
        ],
        "directory": str(tmp_path / "run"),
        "thermo_every": 10,
    }
    file.write_text(dump_yaml(options | {"analyses": dict.fromkeys(analyses)}))
    result = CliRunner().invoke(md.app, ["run", str(file), "--quiet"])
    assert result.exit_code == 0, result.output
    run = RunReader(tmp_path / "run")
    assert run.finished
    assert np.isfinite(run.read_thermo()["conserved_eV"]).tolist() == [True] * 6 + [False] * 5
    assert np.isfinite(run.read_thermo()["total_eV"]).all()
    assert {one.analysis for one in read_results(run.directory)} == {*analyses}
    (temperature,) = (one for one in read_results(run.directory) if one.analysis == "temperature")
    assert temperature.mean_K == pytest.approx(run.read_thermo()["temperature_K"].mean())
    assert (run.directory / "report.html").is_file()
    (drift,) = (one for one in read_results(run.directory) if one.analysis == "energy-drift")
    assert [one.quantity for one in drift.drifts] == ["conserved quantity", "total energy"]
    assert [one.n_points for one in drift.drifts] == [6, 5]  # the row at the joint is the first part's
    assert [one.check for one in drift.verdicts()] == [
        "the conserved quantity was conserved in segment 1, from 0 ps",
        "the total energy was conserved in segment 2, from 0.025 ps",
    ]
    parts = [{"ensemble": "nvt", "steps": 50, "thermostat": "langevin"}] * 2
    refused = options | {"sequence": parts, "analyses": {"energy-drift": None}}
    file.write_text(dump_yaml(refused))
    result = CliRunner().invoke(md.app, ["validate", str(file), "--overwrite"])
    assert result.exit_code == 2
    assert "conserves no energy" in " ".join(result.output.split())
