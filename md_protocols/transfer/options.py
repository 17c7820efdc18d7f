"""Runs of a model on molecules that it was and was not trained on, beside runs of a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from asecalc_ml.errors import ConfigError
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.options import ProtocolOptions
from asecalc_ml.md_protocols.watch.stopping import FlagOptions, StopOptions

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.runs import RunPlan

Spec = str | dict[str, dict[str, Any] | None]


class Transfer(NVE):
    """A model on the molecule it was trained on and on others, beside a reference from the same starts.

    Every run is one at constant energy. The reference is relaxed and equilibrated; the model starts from the
    positions and momenta at which production of the reference begins, so that both have the same kinetic
    energy.
    """

    protocol: Literal["transfer"] = Field(  # type: ignore[assignment]  # each class has its own name
        "transfer", description="a model on other molecules, beside a reference from the same starts"
    )
    default_analyses: ClassVar[tuple[str, ...]] = ("transfer",)

    transfer_to: list[str] = Field(
        min_length=1,
        description="molecules beside `structure`, which the model was trained on: names, smiles:, or files",
        examples=[["1-propanol", "2-propanol"]],
    )
    reference: Spec = Field(
        description="calculator that the model is held against: the level of theory it was trained on",
        examples=["gfn2-xtb"],
    )
    distributions: list[str] | None = Field(
        None,
        min_length=1,
        description="bonds, angles and dihedrals as patterns, such as [C-C, C-C-O]; each is judged in every "
        "molecule that has it; empty for all bonds and angles without hydrogen",
    )
    runs: int = Field(5, ge=1, description="runs of the model on each molecule; a verdict needs 5")
    reference_runs: int = Field(8, ge=1, description="runs of the reference on each; a verdict needs 8")
    workers: int = Field(
        1, ge=1, description="runs at the same time, each in a process of its own with `threads` threads"
    )
    steps: int = Field(100_000, ge=1, description="steps of each production; a verdict needs 10 ps")
    velocities: Literal["thermal"] = Field(
        "thermal", description="each run of the reference draws its own velocities at temperature_K"
    )
    stop: StopOptions = Field(
        StopOptions(), description="what ends a run of the model early; wall_time_h is that of the whole test"
    )
    flag: FlagOptions = Field(
        FlagOptions(), description="which frames of the model's runs are kept for labelling"
    )

    @field_validator("distributions")
    @classmethod
    def _by_element(cls, patterns: list[str] | None) -> list[str] | None:
        from asecalc_ml.structure.topology.patterns import parse_selection

        try:
            selections = [parse_selection(pattern) for pattern in patterns or ()]
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if any(term.index is not None for selection in selections for term in selection.terms):
            raise ValueError(
                "distributions: name elements and surroundings (C-O, CH2-OH), not numbers of atoms, which "
                "mean something else in every molecule"
            )
        return list(dict.fromkeys(map(str, selections))) or None

    @model_validator(mode="after")
    def _every_start_is_there(self) -> Transfer:
        if self.runs > self.reference_runs:
            raise ValueError(
                f"runs ({self.runs}) must not be more than reference_runs ({self.reference_runs}): every run "
                "of the model starts where one of the reference does"
            )
        names = [self.structure, *self.transfer_to]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"transfer_to: {twice} is there twice; `structure` belongs to the test anyway")
        return self

    def check_start(self, atoms: Atoms) -> None:
        """Refuse molecules that the model or the reference cannot compute, before anything is run."""
        from asecalc_ml.md_protocols.transfer.plan import TransferPlan

        super().check_start(atoms)
        if self.workers > 1 and self.calculator is None:
            raise ConfigError(
                f"workers is {self.workers}, and a calculator that was passed in Python cannot be made again "
                "in another process",
                name="workers",
                value=self.workers,
                allowed=[1],
                remedy="name it as `calculator` (NAME or module:Class), or set workers to 1",
            )
        TransferPlan.of(self, atoms).check()

    def plan(self) -> RunPlan:
        """The test itself has no frames and no rows; those of its runs are theirs."""
        return ProtocolOptions.plan(self)

    @property
    def why_not_longer(self) -> str:
        """Runs are judged beside one another."""
        return "all runs of a transfer test have the length that it began with"

    def stages(self) -> list:
        """One, in which all runs are made."""
        from asecalc_ml.md_protocols.transfer.stage import TransferStage

        return [TransferStage(self)]

    @property
    def frame_interval_fs(self) -> None:
        """The test has no frames of its own."""
        return None
