"""What an import is told beside the checkpoint: units, elements, and where the model comes from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.units import ENERGY_UNITS, LENGTH_UNITS, EnergyUnit, LengthUnit

if TYPE_CHECKING:
    from asecalc_ml.store.registry import Entry


class ImportOptions(Options):
    """What a checkpoint does not say about itself."""

    energy_unit: EnergyUnit = Field(
        description=f"unit of the energies it was trained on, which no file says: {', '.join(ENERGY_UNITS)}"
    )
    length_unit: LengthUnit = Field(
        description=f"unit of the positions it was trained on: {', '.join(LENGTH_UNITS)}"
    )
    elements: list[str] = Field(min_length=1, description="elements of the training data, such as H C O")
    charges: list[int] = Field([0], min_length=1, description="total charges in the training data, e")
    spins: list[int] = Field([0], min_length=1, description="numbers of unpaired electrons there")
    composition: str | None = Field(
        None, description="formula, such as C2H6O, where the training data hold this composition alone"
    )
    structure: str | None = Field(
        None,
        description="a structure like the training data's (ethanol, smiles:CCO, a file) for the card's "
        "golden values; empty: atoms of each element in a row",
    )
    dataset: str | None = Field(None, description="name of the training data")
    level_of_theory: str | None = Field(None, description="method and basis of the labels")
    licence: str | None = Field(None, description="licence of the data, an SPDX identifier where it has one")
    citation: str | None = Field(None, description="what to cite for the data")
    test_data: Path | dict[str, Any] | None = Field(
        None,
        description="labelled frames to measure errors on: a file in eV and Å that ASE reads, or a dataset "
        "reader's options, such as {path: test.xyz, energy_unit: kcal/mol}",
    )

    @field_validator("elements", "charges", "spins", mode="before")
    @classmethod
    def _a_list(cls, value: Any) -> Any:
        """On the command line "H C O" and "H,C,O" are lists too, and 0 is a list of one."""
        if isinstance(value, str):
            return [part for part in re.split(r"[\s,]+", value) if part]
        return [value] if isinstance(value, int) else value

    @field_validator("elements")
    @classmethod
    def _are_elements(cls, symbols: list[str]) -> list[str]:
        from ase.data import atomic_numbers

        unknown = [symbol for symbol in symbols if not atomic_numbers.get(symbol)]
        if unknown:
            raise ValueError(f"no element is called {', '.join(unknown)}: give symbols, such as H C O")
        return sorted(set(symbols))

    @model_validator(mode="after")
    def _composition_has_these_elements(self) -> ImportOptions:
        if self.composition is not None and set(composition(self.composition)) != set(self.elements):
            raise ValueError(
                f"composition {self.composition} does not hold the elements {', '.join(self.elements)}: "
                "correct one of them"
            )
        return self

    @property
    def atom_counts(self) -> dict[str, int] | None:
        """Number of atoms of each element in the composition; None if no composition is given."""
        return None if self.composition is None else composition(self.composition)


class TorchMDNetImport(ImportOptions):
    """A checkpoint of torchmd-net (3.x, or an older one that 3.1 reads)."""

    trained_with: Literal["python", "warp"] | None = Field(
        None,
        description="which of torchmd-net's kernels a TensorNet of group SO(3) was trained with: one sees "
        "the mirror image of the other",
    )
    ignore: list[str] = Field(
        [], description="hyper-parameters of the checkpoint that this package does not know and may ignore"
    )

    @field_validator("ignore", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value

    def run(self, file: Path, name: str, trust: bool = False, replace: bool = False) -> Entry:
        """Register the checkpoint's model under a name.

        Parameters
        ----------
        file : Path
            Lightning checkpoint (.ckpt) that torchmd-net wrote.
        name : str
        trust : bool
            Whether Python code in the file may run.
        replace : bool
            Whether a model of this name may be replaced.

        Raises
        ------
        ModelError
            If the file is damaged, no such checkpoint, or holds what cannot be represented here.
        """
        from asecalc_ml.potentials.importing.register import register
        from asecalc_ml.potentials.importing.torchmdnet import read_torchmdnet

        return register(name, file, self, lambda: read_torchmdnet(file, self, trust), replace)


class SchNetPackImport(ImportOptions):
    """A training directory of schnetpack 2.x."""

    output: str | None = Field(
        None, description="name of the model's energy, where it predicts several properties"
    )

    def run(self, directory: Path, name: str, trust: bool = False, replace: bool = False) -> Entry:
        """Register the directory's best model under a name; parameters as :meth:`TorchMDNetImport.run`."""
        from asecalc_ml.potentials.importing.register import register
        from asecalc_ml.potentials.importing.schnetpack import best_model, read_schnetpack

        file = best_model(directory)
        return register(name, file, self, lambda: read_schnetpack(file, self, trust), replace)


def composition(formula: str) -> dict[str, int]:
    """Number of atoms of each element in a formula.

    Raises
    ------
    ValueError
        If it is no formula.
    """
    from ase.formula import Formula

    try:
        return Formula(formula, strict=True).count()
    except ValueError as error:
        raise ValueError(f"{formula!r} is not a formula ({error}): write it as C2H6O") from error
