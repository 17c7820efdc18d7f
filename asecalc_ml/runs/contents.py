"""Schemas of the files of a run directory: the contents that readers rely on, with the types of values.

Files may hold more, and those of older versions less; a key that is asked for and missing is an error then.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from asecalc_ml._lazy import renamed
from asecalc_ml.runs.production import Production
from asecalc_ml.statistics.histogram import Histogram

Vector = Annotated[list[float], Field(min_length=3, max_length=3)]
Vectors = list[Vector]
MOST_BINS = 200_000


class Contents(BaseModel):
    """Base of all below."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, protected_namespaces=())


class OptionsFile(Contents):
    """``protocol.yaml``, as far as it is read without its protocol, which may not be installed any more."""

    protocol: str = ""
    calculator: str | dict[str, dict[str, Any] | None] | None = None
    steps: int | None = None
    timestep_fs: float | None = None
    temperature_K: float | None = None
    pressure_GPa: float | None = None
    relax_fmax_eV_A: float = 0.05
    threads: int | None = Field(None, ge=1)
    trajectory_format: str = "traj"
    analyses: dict[str, dict[str, Any] | None] | None = None
    tracking: dict[str, dict[str, Any] | None] | None = None
    wandb: dict[str, Any] | None = None  # of earlier versions


class CalculatorEntry(Contents):
    """A calculator as :func:`asecalc_ml.calculators.factory.describe_calculator` describes it."""

    name: str = ""
    model_hash: str | None = None
    parameters: dict[str, Any] = {}


class MachineEntry(Contents):
    """Where a run was executed."""

    cpu: str = ""


class ProvenanceFile(Contents):
    """``provenance.json``."""

    started: str = ""
    finished: str | None = None
    calculator: CalculatorEntry = CalculatorEntry()
    versions: dict[str, str] = {}
    machine: MachineEntry = MachineEntry()
    frame_interval_fs: float | None = Field(None, gt=0)
    options: dict[str, Any] = {}
    resumed: list[dict[str, Any]] = []
    steps: int | None = None
    fmax_eV_A: float | None = None
    production: Production | None = None


class EventLine(Contents):
    """A line of ``events.jsonl``."""

    kind: str
    message: str = ""
    time: str = ""
    is_asked_for: bool = False


class EvaluationLine(Contents):
    """A line of ``evaluations.jsonl``: energy and forces, or why there are none."""

    calculator: str
    positions: Vectors
    energy: float | None = None
    forces: Vectors | None = None
    members: list[tuple[float, Vectors]] = []
    error: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> EvaluationLine:
        if self.error is None and (self.energy is None or self.forces is None):
            raise ValueError("it has neither energy and forces nor an error")
        several = [*([] if self.forces is None else [self.forces]), *(forces for _, forces in self.members)]
        if any(len(forces) != len(self.positions) for forces in several):
            raise ValueError("numbers of positions and forces differ")
        return self


class DatasetEntry(Contents):
    """The training data of a card."""

    name: str = ""
    temperature_K: float | list[float] | None = None
    n_train: int | None = None
    n_validation: int | None = None


def _plausible(*periods: float | None) -> AfterValidator:
    """Refuses what is no distribution of Å or degrees, and would take all memory to compare with."""

    def checked(histogram: Histogram) -> Histogram:
        ends = abs(histogram.start), abs(histogram.start + len(histogram.counts))
        widths = 1e-6 < histogram.width < 1e3 and histogram.total < 2**53
        if max(ends) > MOST_BINS or not widths or histogram.period not in periods:
            raise ValueError("it is no histogram of distances or angles")
        return histogram

    return AfterValidator(checked)


class DomainEntry(Contents):
    """The distributions of the training data of a card."""

    distances: dict[str, Annotated[Histogram, _plausible(None)]] = {}
    angles: dict[str, Annotated[Histogram, _plausible(None)]] = {}
    dihedrals: dict[str, Annotated[Histogram, _plausible(None, 360.0)]] = {}


class CardFile(Contents):
    """``card.json``, and the cards in ``scan.json``, as far as reports and analyses read them."""

    name: str = ""
    architecture: str = ""
    n_parameters: int = 0
    cutoff_A: float | None = None
    elements: list[str] = []
    dtype: str = ""
    corrections: list[dict[str, dict[str, Any]]] = []
    dataset: DatasetEntry | None = None
    metrics: dict[str, float | dict[str, Any] | None] | None = None
    domain: DomainEntry | None = None
    notes: list[str] = []


class MemberCardsFile(Contents):
    """``member_cards.json``."""

    cards: list[CardFile]


class ScanCalculatorEntry(CalculatorEntry):
    """A calculator of a scan."""

    label: str
    is_reference: bool
    cards: list[CardFile]


class ScanFile(Contents):
    """``scan.json``."""

    coordinate: str
    kind: Literal["bond", "angle", "dihedral"]
    unit: str
    pattern: str
    atoms: list[int] = Field(min_length=2, max_length=4)
    scan: str
    values: list[float] = Field(min_length=1)
    calculators: list[ScanCalculatorEntry] = Field(min_length=1)
    reference_values: list[tuple[float, float, float | None]]


class MoleculeEntry(Contents):
    """A molecule of a transfer test, with the names of its runs."""

    name: str
    formula: str
    is_trained: bool
    reference: list[str]
    model: list[str]


class TransferFile(Contents):
    """``transfer.json``."""

    model: CalculatorEntry
    reference: CalculatorEntry
    molecules: list[MoleculeEntry]
    runs: list[str]


class NormalModesFile(Contents):
    """``results/normal-modes.json``, as far as other analyses read it."""

    frequencies_per_cm: list[float] = []


def check_hessian(arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays of ``hessian.npz`` of other types or shapes, or not finite, with a ValueError."""
    n_atoms, n_free = arrays["numbers"].size, arrays["free"].size
    expected = {
        "hessian": ("f", (3 * n_free, 3 * n_free)),
        "free": ("i", (n_free,)),
        "positions": ("f", (n_atoms, 3)),
        "numbers": ("i", (n_atoms,)),
        "masses": ("f", (n_atoms,)),
        "pbc": ("b", (3,)),
        "linear": ("b", ()),
        "largest_force": ("f", ()),
        "method": ("U", ()),
    }
    for name, kind_and_shape in expected.items():
        array = arrays[name]
        if (array.dtype.kind, array.shape) != kind_and_shape:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    if not np.isin(arrays["free"], range(n_atoms)).all():
        raise ValueError("free names atoms that there are not")


__getattr__ = renamed(
    __name__,
    {
        "Options": "OptionsFile",
        "Calculator": "CalculatorEntry",
        "Machine": "MachineEntry",
        "Provenance": "ProvenanceFile",
        "Event": "EventLine",
        "Evaluation": "EvaluationLine",
        "Dataset": "DatasetEntry",
        "Domain": "DomainEntry",
        "Card": "CardFile",
        "MemberCards": "MemberCardsFile",
        "ScanCalculator": "ScanCalculatorEntry",
        "Scan": "ScanFile",
        "TransferMolecule": "MoleculeEntry",
        "Transfer": "TransferFile",
        "NormalModes": "NormalModesFile",
    },
)
