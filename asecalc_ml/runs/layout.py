"""The run directory: what a protocol writes and an analysis reads. Its layout is written down here, once.

=================== =====================================================================================
protocol.yaml       every option of the run
provenance.json     versions, model and its hash, seed, machine, when it began and ended
card.json           card of the model, where the calculator has one
member_cards.json   cards of the members of a committee
start.traj          structure before the first stage, as given
relaxed.traj        structure after relaxation
relaxation.csv      energy and largest force along a relaxation
equilibration.csv   energies and temperature during equilibration
thermo.csv          step, time_fs, potential_eV, kinetic_eV, total_eV, temperature_K of the production; of a
                    committee committee_deviation_eV_A, the largest of its force deviations; energy_std_eV
                    where `stop` or `flag` has a limit of it
trajectory.traj     frames of the production: positions, momenta, energy, forces (ASE, float64); steps of a
                    relaxation, points of a scan; trajectory.extxyz or .h5md where that is asked for
evaluations.jsonl   all that relaxations, vibrations and scans have computed; a resumed run reads it again
hessian.npz         second derivatives of the energy, and the structure they belong to
scan.json           what is scanned, with which calculators, and what these were trained on
scan.csv            energy and projected force of every point and calculator of a scan
transfer.json       molecules, calculators and runs of a transfer test; each run is a run directory of its own
                    below this one, such as ethanol/model-1
events.jsonl        what happened: stages, warnings, bonds broken and formed, why it stopped
flagged.extxyz      structures that the model may not know, for labelling: step and reason with each
checkpoint.npz      everything that the rest of the run depends on; checkpoint.previous.npz the one before
results/            what the analyses found, as JSON and CSV; failed.json names those that failed
analysis-errors.log tracebacks of analyses that failed
files.json          names of further files that stages of other packages have written
report.html         the report
=================== =====================================================================================
"""

from __future__ import annotations

from asecalc_ml._lazy import lazily

PROTOCOL = "protocol.yaml"
PROVENANCE = "provenance.json"
CARD = "card.json"
MEMBER_CARDS = "member_cards.json"
START = "start.traj"
RELAXED = "relaxed.traj"
EQUILIBRATION = "equilibration.csv"
THERMO = "thermo.csv"
TRAJECTORY = "trajectory"  # and the suffix of its format
TRAJECTORY_SUFFIXES = {"traj": ".traj", "extxyz": ".extxyz", "h5md": ".h5md"}  # by the name of the format
RELAXATION = "relaxation.csv"
EVALUATIONS = "evaluations.jsonl"
HESSIAN = "hessian.npz"
SCAN = "scan.json"
SCAN_TABLE = "scan.csv"
TRANSFER = "transfer.json"
EVENTS = "events.jsonl"
FLAGGED = "flagged.extxyz"
CHECKPOINT = "checkpoint.npz"
PREVIOUS_CHECKPOINT = "checkpoint.previous.npz"
RESULTS = "results"
FAILURES = "failed.json"  # in RESULTS
NORMAL_MODES = f"{RESULTS}/normal-modes.json"
ANALYSIS_LOG = "analysis-errors.log"
FURTHER = "files.json"
REPORT = "report.html"
LOCK = ".lock"

TRAJECTORIES = tuple(f"{TRAJECTORY}{suffix}" for suffix in TRAJECTORY_SUFFIXES.values())

#: Names that this module had before, and the modules of :mod:`asecalc_ml.runs` that define them now.
_FORMER = {
    "GROWING": "further_files",
    "WHOLE": "further_files",
    "BEFORE_PROTOCOL": "vacancy",
    "FEWEST_RUNS": "plan",
    "FEWEST_REFERENCE_RUNS": "plan",
    "COMMITTEE_DEVIATION": "production",
    "THERMO_COLUMNS": "production",
    "EventKind": "events",
    "now": "events",
    "trajectory_of": "trajectories",
}
__getattr__ = lazily(__name__, {name: f"asecalc_ml.runs.{module}" for name, module in _FORMER.items()})
