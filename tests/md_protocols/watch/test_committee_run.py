"""A committee's run: how far members disagreed, and whether it stayed inside what they were trained on."""

import re

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from raising import told
from typer.testing import CliRunner

from asecalc_ml.analysis.checks.committee_deviation import CommitteeDeviation
from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.distributions.training_domain import TrainingDomain
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.analysis.pipeline import run_analyses
from asecalc_ml.analysis.report.report import key_facts, model_rows, run_title
from asecalc_ml.calculators.committee import Committee
from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.cli import md
from asecalc_ml.config.options import dump_yaml, parse_options
from asecalc_ml.errors import AnalysisError, ConfigError, RunError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.md_protocols.sequence import Sequence
from asecalc_ml.md_protocols.stages.deviation_column import DeviationColumns
from asecalc_ml.md_protocols.watch.stopping import Suspicion
from asecalc_ml.md_protocols.watch.suspicions import first_sign, make_signs
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.potentials.training.frames.domain import measure_domain
from asecalc_ml.runs import COMMITTEE_DEVIATION, RunReader
from asecalc_ml.statistics.histogram import Histogram
from asecalc_ml.store.card import DatasetCard
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained

NAMES = ["first", "second"]
SHORT = {
    "structure": "water", "relax": False, "equilibration_ps": 0.01, "timestep_fs": 0.5, "steps": 60,
    "write_every": 5, "thermo_every": 5, "checkpoint_every": 10,
}  # fmt: skip


def waters(longest_A: float, seed: int = 0) -> list[Atoms]:
    """Water with O-H bonds from 0.8 Å up to a length, and labels that nobody looks at."""
    frames = []
    for length in np.arange(0.8, longest_A, 0.005):
        atoms = molecule("H2O")
        for hydrogen in (1, 2):
            atoms.set_distance(0, hydrogen, length, fix=0)
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((3, 3)))
        frames.append(atoms)
    return frames


@pytest.fixture
def members() -> list[str]:
    """Two Morse potentials with other bond lengths; the second has seen shorter bonds alone."""
    for name, r0_A, longest_A in (("first", 0.95, 1.3), ("second", 1.05, 1.15)):
        frames = waters(longest_A)
        register_untrained(
            name,
            Morse(depth_eV=2.0, r0_A=r0_A, cutoff_A=4.0),
            load_structure("water"),
            dtype=torch.float64,
            domain=measure_domain(frames, 4.0),
            dataset=DatasetCard(name=f"{name} data", temperature_K=300, n_train=len(frames), n_validation=0),
        )
    return NAMES


def committee(members: list[str]) -> dict:
    return {"committee": {"members": members}}


# ---------------------------------------------------------------------------------------------- the column


@pytest.mark.parametrize("protocol", [NVE, NVT, Sequence])
def test_the_column_is_the_largest_deviation_of_each_row(protocol, members, tmp_path):
    """Computed anew from the frames, which are written as often as rows."""
    options = dict(SHORT)
    if protocol is Sequence:
        steps = options.pop("steps") // 2
        options["sequence"] = [{"ensemble": name, "steps": steps} for name in ("nvt", "nve")]
    run = protocol(calculator=committee(members), **options).run(directory=tmp_path / "run", quiet=True)
    first, second = (make_calculator(name) for name in members)
    expected = []
    for atoms in run.frames():
        difference = first.get_forces(atoms) - second.get_forces(atoms)
        expected.append(np.linalg.norm(difference, axis=1).max() / np.sqrt(2))  # n - 1 of two
    assert run.read_thermo()[COMMITTEE_DEVIATION] == pytest.approx(expected, rel=1e-9)
    assert (run.read_thermo()[COMMITTEE_DEVIATION] > 0).all()


def test_the_column_costs_no_evaluation(members, tmp_path, monkeypatch):
    plain, calls = Committee.combine, []
    monkeypatch.setattr(Committee, "combine", lambda *a: calls.append(1) or plain(*a))
    NVE(calculator=committee(members), **SHORT).run(directory=tmp_path / "with", quiet=True)
    n_with = len(calls)
    monkeypatch.setattr(DeviationColumns, "__call__", lambda self: {})
    NVE(calculator=committee(members), **SHORT).run(directory=tmp_path / "without", quiet=True)
    assert len(calls) == 2 * n_with


def test_corrections_keep_the_column(members, tmp_path):
    spec = {"committee": {"members": members, "corrections": ["zbl"]}}
    run = NVE(calculator=spec, **SHORT).run(directory=tmp_path / "run", quiet=True)
    assert (run.read_thermo()[COMMITTEE_DEVIATION] > 0).all()
    assert [card["name"] for card in run.read_model_cards()] == members


def test_a_model_alone_has_no_column(members, tmp_path):
    run = NVE(calculator="first", **SHORT).run(directory=tmp_path / "run", quiet=True)
    assert COMMITTEE_DEVIATION not in run.read_thermo()
    assert [card["name"] for card in run.read_model_cards()] == ["first"]
    with pytest.raises(AnalysisError, check=told(name=COMMITTEE_DEVIATION, allowed=["time_fs"], remedy=True)):
        CommitteeDeviation().run(run)
    assert "committee-deviation" not in [one.analysis for one in run_analyses(run.directory)]
    asked = NVE(calculator="first", analyses={"committee-deviation": {}}, **SHORT)
    with pytest.raises(AnalysisError, check=told(problem="committee-deviation", remedy="members")):
        asked.check(directory=tmp_path / "other")


def test_a_run_that_began_without_the_column_keeps_its_table(members, tmp_path, monkeypatch):
    options = NVE(calculator=committee(members), **SHORT)
    with monkeypatch.context() as older:
        older.setattr(DeviationColumns, "__call__", lambda self: {})
        plain, calls = Committee.combine, []

        def interrupted(*args):
            calls.append(1)
            if len(calls) == 60:
                raise KeyboardInterrupt
            return plain(*args)

        older.setattr(Committee, "combine", interrupted)
        with pytest.raises(KeyboardInterrupt):
            options.run(directory=tmp_path / "run", quiet=True)
    run = resume_run(tmp_path / "run", quiet=True)
    assert run.finished
    assert run.read_thermo()["step"].tolist() == list(range(0, 61, 5))
    assert COMMITTEE_DEVIATION not in run.read_thermo()


# -------------------------------------------------------------------------------------------- the analysis


def measured(deviation: np.ndarray, **options):
    thermo = {"time_fs": np.arange(len(deviation)) * 0.5, COMMITTEE_DEVIATION: deviation}
    return CommitteeDeviation(**options).run(MemoryRun(molecule("H2O"), np.empty((0, 3, 3)), thermo=thermo))


@pytest.mark.parametrize(
    ("n_above_low", "n_above_high", "status"),
    [(0, 0, "passed"), (10, 10, "passed"), (11, 0, "undecided"), (500, 10, "undecided"), (500, 11, "failed")],
)
def test_the_verdict_counts_rows_above_two_limits(n_above_low, n_above_high, status):
    deviation = np.full(1000, 0.02)
    deviation[:n_above_low] = 0.2
    deviation[:n_above_high] = 0.4
    result = measured(np.random.default_rng(0).permutation(deviation))
    (verdict,) = result.verdicts()
    assert verdict.status == status
    assert (result.above_low, result.above_high) == (n_above_low / 1000, n_above_high / 1000)


def test_numbers_of_the_analysis():
    deviation = np.random.default_rng(0).gamma(2.0, 0.02, size=501)
    result = measured(deviation, low_eV_A=0.05, high_eV_A=0.1)
    assert result.mean_eV_A == pytest.approx(deviation.mean())
    assert result.median_eV_A == pytest.approx(np.median(deviation))
    assert result.largest_eV_A == deviation.max()
    assert result.largest_at_ps == pytest.approx(deviation.argmax() * 0.5e-3)
    assert (result.n_points, result.duration_ps) == (501, pytest.approx(0.25))
    (table,) = result.tables()
    assert len(table.columns) == len(table.rows[0])
    ax = result.plot()
    assert ax.get_title() == "Disagreement of the committee"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (ps)", "largest force deviation (eV/Å)")
    assert ax.get_yscale() == "log"


def test_limits_in_the_wrong_order():
    with pytest.raises(ConfigError, match=r"low_eV_A \(0.3\).* high_eV_A \(0.1\)"):
        parse_options({"low_eV_A": 0.3, "high_eV_A": 0.1}, CommitteeDeviation)


# ---------------------------------------------------------------------------------------------- the report


def test_report_and_terminal_show_disagreement_flags_and_training_data(members, tmp_path):
    flag = {"committee_deviation_eV_A": 1e-6, "interval_fs": 10}
    options = NVE(calculator=committee(members), flag=flag, analyses=None, **SHORT)
    (tmp_path / "run.yaml").write_text(
        dump_yaml(options.model_copy(update={"directory": str(tmp_path / "run")}))
    )
    done = CliRunner().invoke(md.app, ["run", str(tmp_path / "run.yaml")])
    assert done.exit_code == 0, done.output
    assert f"4 frames flagged for labelling: `asecalc-ml data label {tmp_path / 'run'}" in done.output
    run = RunReader(tmp_path / "run")
    assert run.count_flagged() == 4
    results = run_analyses(run.directory)
    facts = {row.name: row.value for row in key_facts(run)}
    assert facts["flagged frames"].startswith("4, in flagged.extxyz")
    assert [row.value for row in model_rows(run) if row.name == "member"] == members
    page = (run.directory / "report.html").read_text(encoding="utf-8")
    assert run_title(run) == "water, NVE, committee(members=[first, second])"
    for expected in ("Disagreement of the committee", "the members of the committee agreed", "first data"):
        assert expected in page
    assert "No training data to compare with" not in page
    (found,) = [one for one in results if one.analysis == "committee-deviation"]
    assert found.n_flagged == 4
    validated = CliRunner().invoke(md.app, ["validate", str(tmp_path / "run.yaml"), "--overwrite"])
    assert "committee-deviation" in validated.output
    alone = CliRunner().invoke(
        md.app,
        ["validate", str(tmp_path / "run.yaml"), "--overwrite", "--calculator", "first", "--flag", "{}"],
    )
    assert alone.exit_code == 0, alone.output
    assert "committee-deviation" not in alone.output


def test_a_run_that_stops_counts_its_flagged_frames(members, tmp_path):
    limit = {"committee_deviation_eV_A": 1e-6}
    options = NVE(calculator=committee(members), stop=limit, **SHORT)
    with pytest.raises(RunError, check=told(remedy="1 frame flagged")) as error:
        options.run(directory=tmp_path / "run", quiet=True)
    assert re.search(r"`asecalc-ml data label .*extxyz`", error.value.remedy)
    assert RunReader(tmp_path / "run").count_flagged() == 1


# -------------------------------------------------------------------------------------------- training data


def card(name: str, samples: list[float]) -> dict:
    histogram = Histogram.from_samples(samples, width=0.02)
    return {
        "dataset": {"name": name, "temperature_K": 300},
        "domain": {"distances": {"N-N bonded": histogram.model_dump()}},
    }


def run_of_n2(*cards: dict) -> MemoryRun:
    lengths = [1.01, 1.05, 1.09, 1.13]
    positions = np.array([[[0, 0, 0], [0, 0, length]] for length in lengths])
    return MemoryRun(Atoms("N2", [(0, 0, 0), (0, 0, 1.1)]), positions, 1.0, member_cards=cards)


def test_inside_is_what_every_member_has_seen():
    """The first has seen three of four lengths, the second another three: two are inside."""
    cards = card("a", 2 * [1.01, 1.05, 1.09]), card("b", 2 * [1.05, 1.09, 1.13])
    training = BondLengths().run(run_of_n2(*cards))["N-N"].training
    assert training.dataset == "a and b"
    assert training.temperature == "300 K"
    assert training.values_outside == 0.5
    assert [training.histogram.covers(x) for x in (1.01, 1.05, 1.07, 1.09, 1.13)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_members_of_the_same_data_are_compared_with_that_alone():
    one = card("a", [1.01, 1.05, 1.09])
    training = BondLengths().run(run_of_n2(one, one, one))["N-N"].training
    assert training.dataset == "a"
    assert training.histogram == Histogram.from_samples([1.01, 1.05, 1.09], width=0.02)


def test_the_member_with_the_fewest_frames_decides_what_chance_leaves_out():
    """50 values leave out some percent of their own distribution, whatever the other member has seen."""
    random = np.random.default_rng(0)
    few, many = random.normal(1.1, 0.03, 50), random.normal(1.1, 0.03, 20_000)
    run = run_of_n2(card("a", few), card("b", many))
    training = BondLengths().run(run)["N-N"].training
    alone = BondLengths().run(run_of_n2(card("a", few)))["N-N"].training
    assert training.n_values == alone.n_values == 50
    assert training.allowed_outside == alone.allowed_outside


@pytest.mark.parametrize("other", [{}, {"domain": None}, card("b", [1.5])])
def test_without_common_data_nothing_is_claimed(other):
    assert BondLengths().run(run_of_n2(card("a", [1.05]), other)).verdicts() == []
    assert TrainingDomain().of(2, "N-N") is None


def test_a_committee_knows_the_domain_of_every_member(members):
    """A bond that the first has seen and the second has not is outside, as for the second alone."""
    atoms = molecule("H2O")
    options = Suspicion(outside_training_domain=True, domain_margin_A=0.01)
    signs = {
        name: make_signs(options, atoms, make_calculator(spec))
        for name, spec in {"first": "first", "second": "second", "both": committee(members)}.items()
    }
    assert [len(one) for one in signs.values()] == [1, 1, 2]
    for length, expected in ((1.0, [False] * 3), (1.25, [False, True, True]), (1.5, [True] * 3)):
        for hydrogen in (1, 2):
            atoms.set_distance(0, hydrogen, length, fix=0)
        assert [first_sign(one, atoms) is not None for one in signs.values()] == expected


def test_a_member_without_a_domain_is_refused(members):
    register_untrained("third", Morse(depth_eV=2.0, r0_A=1.0, cutoff_A=4.0), load_structure("water"))
    calculator = make_calculator(committee(["first", "third"]))
    with pytest.raises(ConfigError, check=told(name="outside_training_domain", remedy=True)):
        make_signs(Suspicion(outside_training_domain=True), molecule("H2O"), calculator)


def test_a_run_directory_without_members_reads_as_before(members, tmp_path):
    """One that an older version wrote has no file of members' cards."""
    run = NVE(calculator=committee(members), **SHORT).run(directory=tmp_path / "run", quiet=True)
    (run.directory / "member_cards.json").unlink()
    assert RunReader(run.directory).read_model_cards() == []
    assert run_analyses(run.directory)
