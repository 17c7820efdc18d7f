"""What a run of any protocol states: which quantity it conserves, and the temperature it was asked for."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given
from hypothesis import strategies as st
from places import HELPERS
from raising import told
from typer.testing import CliRunner

from asecalc_ml import plugins
from asecalc_ml.analysis.checks.energy_drift import EnergyDrift
from asecalc_ml.analysis.checks.pressure import Pressure
from asecalc_ml.analysis.checks.temperature import Temperature
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.analysis.pipeline import read_results
from asecalc_ml.analysis.report.report import target_course
from asecalc_ml.cli import md
from asecalc_ml.config.options import dump_yaml, parse_options, read_yaml
from asecalc_ml.errors import AnalysisError, PluginError
from asecalc_ml.md_protocols import integrators
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.integrators import Langevin, Ramp, VelocityVerlet
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.md_protocols.sequence import Sequence
from asecalc_ml.md_protocols.stages.produce import Produce
from asecalc_ml.runs import PROTOCOL, PROVENANCE, Production, RunReader, Segment
from asecalc_ml.runs.production import straightened

WATER = {
    "structure": "H2O",
    "calculator": "toy_calculators:Springs",
    "relax": False,
    "equilibration_ps": 0,
    "timestep_fs": 0.5,
    "thermo_every": 2,
    "write_every": 10,
}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def theirs(tmp_path, monkeypatch):
    """The third party's package, and toy calculators."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(HELPERS)
    from third_party import install

    monkeypatch.syspath_prepend(install(folder))


def run(protocol: str, directory: Path, **options) -> RunReader:
    given = WATER | {"protocol": protocol} | options
    return parse_options(given, plugins.get("protocols", protocol)).run(directory=directory, quiet=True)


def slope(time_fs: np.ndarray, energy_eV: np.ndarray, n_atoms: int = 3) -> float:
    return float(np.polyfit(time_fs / 1000, 1000 * (energy_eV - energy_eV[0]) / n_atoms, 1)[0])


# ---------------------------------------------------------------------- third parties


def test_constant_energy_of_a_third_party_is_judged_by_its_total_energy(tmp_path):
    made = run("microcanonical", tmp_path / "run", steps=200)
    assert [one.conserved for one in made.production.segments] == ["total_eV"]
    result = EnergyDrift().run(made)
    assert result.quantity == "total energy"
    assert result.slope_meV_atom_ps == pytest.approx(
        slope(made.read_thermo()["time_fs"], made.read_thermo()["total_eV"])
    )
    ours = NVE(**WATER, steps=200).run(directory=tmp_path / "ours", quiet=True)
    assert ours.production == made.production


def test_default_analyses_and_report_of_a_third_party_have_the_drift(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml(WATER | {"protocol": "microcanonical", "steps": 100}))
    ended = CliRunner().invoke(md.app, ["run", str(file), "-q", "--directory", str(tmp_path / "run")])
    assert ended.exit_code == 0, ended.output
    assert "energy-drift" in {one.analysis for one in read_results(tmp_path / "run")}
    assert "the total energy was conserved" in (tmp_path / "run" / "report.html").read_text()


def test_annealing_is_stated_as_the_thermostat_was_set(tmp_path, monkeypatch):
    """Against every temperature that the integrator was given."""
    given, set_temperature = [], Langevin._set_temperature

    def noting(self, kelvin):
        given.append((0.5 * self._state.step, kelvin))
        set_temperature(self, kelvin)

    monkeypatch.setattr(Langevin, "_set_temperature", noting)
    made = run("anneal", tmp_path / "run", steps=120)
    times, kelvin = np.array(given).T
    assert len(kelvin) == 120
    assert kelvin.max() == pytest.approx(900)
    assert made.production.target_temperature(times) == pytest.approx(kelvin, rel=1e-9)
    (segment,) = made.production.segments
    assert segment.temperature_K == ((0, 300), (30, 900), (60, 300))
    assert target_course(made.production) == "300 to 900 to 300 K"
    assert segment.conserved is None
    with pytest.raises(AnalysisError, check=told(remedy="bussi")):
        EnergyDrift().run(made)


def test_an_integrator_made_by_a_function_cannot_state_what_it_conserves():
    ramp = Ramp.constant(300.0)
    stage = Produce(lambda state, step: VelocityVerlet(state, step, ramp), 10, 0.5, ramp, True)
    with pytest.raises(PluginError, check=told(name="make_integrator", remedy="functools.partial")):
        stage.segment(0)


def test_columns_that_an_integrator_does_not_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(VelocityVerlet, "extras", lambda self, total: {"mine": 1.0})
    with pytest.raises(PluginError, check=told(name="VelocityVerlet.extras()", value=["mine"])):
        run("nve", tmp_path / "run", steps=10)


def test_productions_with_other_time_steps_are_refused(monkeypatch):
    ramp = Ramp.constant(300.0)
    stage = Produce(partial(VelocityVerlet, ramp=ramp), 10, 1.0, ramp, True)
    monkeypatch.setattr(NVE, "productions", lambda self, is_equilibrated: [stage])
    with pytest.raises(
        PluginError, check=told(name="timestep_fs", value=1.0, allowed=[0.5], remedy="timestep_fs")
    ):
        NVE(**WATER).plan()


# ---------------------------------------------------------------------- the plan is the statement


@pytest.mark.parametrize(
    ("options", "conserved"),
    [
        (NVE(), "total_eV"),
        (NVT(thermostat="bussi"), "conserved_eV"),
        (NVT(thermostat="bussi", temperature_end_K=600), "conserved_eV"),
        (NVT(thermostat="nose-hoover-chain"), "conserved_eV"),
        (NVT(thermostat="nose-hoover-chain", temperature_end_K=600), None),
        (NVT(thermostat="langevin"), None),
    ],
)
def test_what_is_conserved_follows_from_the_integrator(options, conserved):
    (segment,) = options.plan().production.segments
    assert segment.conserved == conserved
    assert options.plan().conserves_energy == (conserved is not None)


@pytest.mark.parametrize(
    ("own", "line"),
    [
        ({}, ((0, 300), (5, 300))),
        ({"velocities": "structure"}, ()),
        ({"velocities": "structure", "equilibration_ps": 0.1}, ((0, 300), (5, 300))),
    ],
)
def test_given_velocities_have_no_temperature_that_was_asked_for(own, line):
    (segment,) = NVE(**WATER | own, steps=10).plan().production.segments
    assert segment.temperature_K == line


@given(st.lists(st.floats(1, 5000), min_size=2, max_size=6), st.integers(50, 5000))
def test_any_course_is_stated_as_it_is(kelvin, n_steps):
    class Course(Ramp):
        def at(self, step):
            return float(np.interp(step, np.linspace(0, n_steps, len(kelvin)), kelvin))

    course = Course(kelvin[0], kelvin[-1], n_steps)
    steps = np.arange(n_steps + 1)
    exact = np.array([course.at(step) for step in steps])
    stated = np.interp(steps, *np.array(course.points).T)
    assert np.abs(stated - exact).max() <= 0.06 * np.ptp(kelvin) + 1e-6  # a corner between two of 201 points
    assert course.is_constant == (np.ptp(kelvin) == 0)
    assert course.highest <= max(kelvin) + 1e-9
    assert course.mean == pytest.approx(exact.mean(), rel=0.05)


# ---------------------------------------------------------------------- several segments


def test_each_segment_has_its_own_drift_and_none_is_fitted_across_a_joint(tmp_path):
    """The energy that a thermostat counts begins anew with it: over all rows that is a jump, and no drift."""
    part = {"ensemble": "nvt", "thermostat": "bussi", "thermostat_time_fs": 10, "steps": 200}
    parts = [part | {"temperature_K": 1500}, part | {"temperature_K": 300}]
    options = Sequence(**WATER | {"thermo_every": 2, "equilibration_ps": 0.05}, sequence=parts)
    made = options.run(directory=tmp_path / "run", quiet=True)
    thermo = made.read_thermo()
    result = EnergyDrift().run(made)
    joint = 101
    times, values = thermo["time_fs"], thermo["conserved_eV"]
    expected = [slope(times[rows], values[rows]) for rows in (slice(joint), slice(joint, None))]
    assert [one.slope_meV_atom_ps for one in result.drifts] == pytest.approx(expected, abs=1e-6)
    across = abs(slope(thermo["time_fs"], thermo["conserved_eV"]))
    assert across > 10 * max(map(abs, expected))
    assert abs(result.slope_meV_atom_ps) == pytest.approx(max(map(abs, expected)))
    assert len(result.panels()) == len(result.verdicts()) == 2


def test_a_segment_that_conserves_nothing_is_undecided(tmp_path):
    parts = [{"ensemble": "nvt", "thermostat": "langevin", "steps": 50}, {"ensemble": "nve", "steps": 150}]
    made = Sequence(**WATER, sequence=parts).run(directory=tmp_path / "run", quiet=True)
    first, second = EnergyDrift().run(made).verdicts()
    assert first.check.startswith("the total energy was conserved in segment 2")
    assert (second.status, second.text) == ("undecided", "it conserves no energy that could drift")


def test_stop_by_energy_is_counted_from_the_beginning_of_each_part(tmp_path):
    part = {"ensemble": "nvt", "thermostat": "bussi", "thermostat_time_fs": 5, "steps": 100}
    options = WATER | {"stop": {"energy_change_eV_atom": 0.02}, "equilibration_ps": 0.05, "timestep_fs": 0.1}
    parts = [part | {"temperature_K": 3000}, part | {"temperature_K": 100}]
    assert Sequence(**options, sequence=parts).run(directory=tmp_path / "run", quiet=True).finished


# ---------------------------------------------------------------------- resumed


def test_a_ramp_with_other_steps_after_a_resumption_is_stated_as_it_was_followed(tmp_path, monkeypatch):
    import toy_calculators

    given, set_temperature, calculate = [], Langevin._set_temperature, toy_calculators.Springs.calculate

    def noting(self, kelvin):
        given.append((0.5 * self._state.step, kelvin))
        set_temperature(self, kelvin)

    def interrupted(self, *args, **kwargs):
        calculate(self, *args, **kwargs)
        if self.calls == 61:
            raise KeyboardInterrupt

    monkeypatch.setattr(Langevin, "_set_temperature", noting)
    own = {"thermostat": "langevin", "temperature_end_K": 900, "checkpoint_every": 10}
    with monkeypatch.context() as patch:
        patch.setattr(toy_calculators.Springs, "calculate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("nvt", tmp_path / "run", **own, steps=100)
    path = tmp_path / "run" / PROTOCOL
    path.write_text(dump_yaml(read_yaml(path) | {"steps": 200}))
    made = resume_run(tmp_path / "run", quiet=True, allow_different=True)
    last = dict(given)  # steps after the checkpoint were made twice
    times, kelvin = np.array(sorted(last.items())).T
    assert (len(times), kelvin[-1]) == (200, pytest.approx(900, abs=4))
    stated = made.production.target_temperature(times)
    at_joint = int(np.argmin(np.diff(kelvin))) + 1  # the new ramp is lower: there the two lines meet
    others = np.delete(np.arange(200), at_joint)
    assert stated[others] == pytest.approx(kelvin[others])
    assert len(made.production.segments) == 1


LINES = st.lists(st.floats(0, 1000), min_size=2, max_size=5)


@given(LINES, LINES, st.floats(1, 99), st.booleans())
def test_a_continued_statement_is_the_old_one_before_and_the_new_one_after(first, second, time_fs, is_same):
    old, new = (
        Production(segments=(Segment(start_fs=0, conserved=column, temperature_K=_line(values)),))
        for column, values in (("total_eV", first), ("total_eV" if is_same else None, second))
    )
    both = old.continued(new, time_fs)
    assert len(both.segments) == (1 if is_same else 2)
    before, after = np.linspace(0, time_fs * 0.999, 20), np.linspace(time_fs * 1.001, 120, 20)
    assert both.target_temperature(before) == pytest.approx(old.target_temperature(before), abs=1e-5)
    assert both.target_temperature(after) == pytest.approx(new.target_temperature(after), abs=1e-5)


def _line(values: list[float]) -> tuple:
    return tuple(zip(np.linspace(0, 100, len(values)).tolist(), values, strict=True))


# ---------------------------------------------------------------------- judged along the line


def in_memory(kelvin: np.ndarray, *segments: Segment, **columns) -> MemoryRun:
    thermo = {"time_fs": np.arange(len(kelvin)) * 1.0, "temperature_K": kelvin, **columns}
    water = molecule("H2O")
    return MemoryRun(water, water.positions[None], thermo=thermo, production=Production(segments=segments))


TRIANGLE = Segment(start_fs=0, temperature_K=((0, 300), (2000, 900), (3999, 300)))


def test_an_annealing_that_was_followed_passes_and_a_level_at_its_mean_does_not():
    """Both have the same mean over the run, and over each half of it."""
    times = np.arange(4000.0)
    line = np.interp(times, *np.array(TRIANGLE.temperature_K).T)
    noise = 40 * RNG.normal(size=4000)
    followed = Temperature().run(in_memory(line + noise, TRIANGLE))
    level = Temperature().run(in_memory(np.full(4000, 600.0) + noise, TRIANGLE))
    assert followed.mean_K == pytest.approx(level.mean_K, abs=1)
    assert [one.status for one in followed.verdicts()] == ["passed"]
    assert [one.status for one in level.verdicts()] == ["failed"]
    assert abs(level.deviation) == pytest.approx(150 / 450, abs=0.02)  # 600 K where 450 K were asked for
    assert "the course from 300 to 900 to 300 K" in level.verdicts()[0].text
    assert followed.std_K == pytest.approx(40, rel=0.1)
    drawn = followed.plot().lines[-1]
    assert drawn.get_ydata() == pytest.approx([300, 900, 300], abs=1)


def test_a_segment_without_a_target_is_not_judged():
    kelvin = np.concatenate([np.full(2000, 300.0), np.full(2000, 700.0)]) + 40 * RNG.normal(size=4000)
    first = Segment(start_fs=0, temperature_K=((0, 300), (1999, 300)))
    result = Temperature().run(in_memory(kelvin, first, Segment(start_fs=1999, conserved="total_eV")))
    assert result.deviation == pytest.approx(0, abs=0.02)
    assert len(result.targets) == 1
    both = Temperature().run(in_memory(kelvin, Segment(start_fs=0, temperature_K=((0, 300), (3999, 300)))))
    assert [one.status for one in both.verdicts()] == ["undecided"]  # one jump is no mean that is known


def test_pressure_is_judged_in_each_segment_that_has_a_target():
    n = 4000
    pressure = 0.01 * RNG.normal(size=n) + np.where(np.arange(n) <= 1999, 0.0, 1.0)
    pressure[:1000] = np.nan  # constant volume
    segments = [
        Segment(start_fs=0),
        Segment(start_fs=999, pressure_GPa=((999, 0.0),)),
        Segment(start_fs=1999, pressure_GPa=((1999, 2.0),)),
    ]
    result = Pressure().run(in_memory(np.full(n, 300.0), *segments, pressure_GPa=pressure))
    assert [one.status for one in result.verdicts()] == ["passed", "failed"]
    assert [one.mean_GPa for one in result.levels] == pytest.approx([0.0, 1.0], abs=1e-2)
    assert np.isfinite(result["pressure"].mean)
    result.plot()


# ---------------------------------------------------------------------- earlier versions, and damage


@pytest.mark.parametrize(
    ("protocol", "own"),
    [("nve", {}), ("nvt", {"thermostat": "bussi"}), ("nvt", {"thermostat": "nose-hoover-chain"}),
     ("nvt", {"thermostat": "langevin", "temperature_end_K": 600}),
     ("nvt", {"thermostat": "nose-hoover-chain", "temperature_end_K": 600})],
)  # fmt: skip
def test_runs_without_a_statement_are_read_by_their_options(tmp_path, protocol, own):
    made = run(protocol, tmp_path / "run", steps=40, **own)
    stated, path = made.production, made.directory / PROVENANCE
    content = json.loads(path.read_text())
    for name in ("production", "steps", "fmax_eV_A"):
        del content[name]
    path.write_text(json.dumps(content))
    old = RunReader(made.directory)
    times = made.read_thermo()["time_fs"]
    assert old.production.target_temperature(times) == pytest.approx(stated.target_temperature(times))
    assert [one.conserved for one in old.production.segments] == [one.conserved for one in stated.segments]
    assert old.planned_steps == 40


def test_a_joint_belongs_to_the_segment_that_ends_there():
    production = Production(segments=(Segment(start_fs=0), Segment(start_fs=10)))
    rows = production.rows(np.array([0.0, 5.0, 10.0, 15.0]))
    assert [one.tolist() for one in rows] == [[0, 1, 2], [3]]


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)), min_size=2, max_size=30))
def test_a_straightened_line_has_the_same_values(points):
    points = sorted({round(time, 2): value for time, value in points}.items())
    line = straightened(points)
    times = np.array([time for time, _ in points])
    exact = np.array([value for _, value in points])
    assert np.interp(times, *np.array(line).T) == pytest.approx(exact, abs=1e-3)


def test_every_integrator_names_its_columns():
    """What a class declares is what an object of it writes."""
    base, offered = integrators.Integrator, [getattr(integrators, name) for name in integrators.__all__]
    kinds = [item for item in offered if isinstance(item, type) and issubclass(item, base)]
    assert len(kinds) == 6  # the base and five others
    assert {kind.columns for kind in kinds} == {(), ("conserved_eV",), ("volume_A3", "pressure_GPa")}
