"""What a transfer test is going to do: its molecules, its runs, and which of them start where others do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from asecalc_ml._lazy import renamed
from asecalc_ml.calculators.factory import describe_calculator, make_calculator
from asecalc_ml.calculators.protocol import need_energies
from asecalc_ml.errors import AsecalcError, StructureError
from asecalc_ml.md_protocols.engine.preparation import first_state
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.structure.topology.chains import has_chain

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.transfer.options import Transfer

MODEL, REFERENCE = "model", "reference"
OF_THE_WHOLE = {
    "protocol", "structure", "calculator", "directory", "seed", "analyses", "velocities", "stop", "flag",
}  # fmt: skip


@dataclass(frozen=True)
class NamedMolecule:
    """A molecule of the test.

    Attributes
    ----------
    name : str
        Also that of its folder.
    atoms : Atoms
        As given, without a calculator.
    structure : str or None
        As the options name it; None for atoms given in Python.
    """

    name: str
    atoms: Atoms
    structure: str | None


@dataclass(frozen=True)
class PartPlan:
    """One run of the test.

    Attributes
    ----------
    name : str
        Its directory below that of the test, such as ethanol/model-1.
    options : NVE
    molecule : NamedMolecule
    start : str or None
        Name of the run of the reference at whose first frame it starts; None for those of the reference.
    """

    name: str
    options: NVE
    molecule: NamedMolecule
    start: str | None


@dataclass(frozen=True)
class TransferPlan:
    """Everything that the options of a transfer test mean.

    Attributes
    ----------
    options : Transfer
    model : Calculator
    molecules : list of NamedMolecule
        The one that the model was trained on first.
    """

    options: Transfer
    model: BaseCalculator
    molecules: list[NamedMolecule]

    @classmethod
    def of(cls, options: Transfer, atoms: Atoms) -> TransferPlan:
        """Make a plan; StructureError where a structure is not found."""
        trained = atoms.copy()
        others = [load_structure(spec) for spec in options.transfer_to]
        specs = [options.structure, *options.transfer_to]
        named = zip(_names(specs, trained), [trained, *others], specs, strict=True)
        return cls(options, atoms.calc, [NamedMolecule(*fields) for fields in named])

    def make_model(self) -> BaseCalculator:
        """A calculator without memory of another run, as far as it can be made from the options."""
        return make_calculator(self.options.calculator) if self.options.calculator else self.model

    def make_reference(self) -> BaseCalculator:
        """The reference, without memory of another run."""
        reference = make_calculator(self.options.reference)
        need_energies(reference, "The reference of a transfer test")
        return reference

    @property
    def parts(self) -> list[PartPlan]:
        """All runs in order: of each molecule those of the reference first."""
        return [
            part
            for k, molecule in enumerate(self.molecules)
            for part in [*self._of_reference(k, molecule), *self._of_model(k, molecule)]
        ]

    def _of_reference(self, k: int, molecule: NamedMolecule) -> Iterator[PartPlan]:
        for number in range(1, self.options.reference_runs + 1):
            options = reference_options(self.options, molecule.structure, _seed(self.options.seed, k, number))
            yield PartPlan(part_name(molecule, REFERENCE, number), options, molecule, None)

    def _of_model(self, k: int, molecule: NamedMolecule) -> Iterator[PartPlan]:
        for number in range(1, self.options.runs + 1):
            options = model_options(self.options, molecule.structure, _seed(self.options.seed, k, number))
            start = part_name(molecule, REFERENCE, number)
            yield PartPlan(part_name(molecule, MODEL, number), options, molecule, start)

    def describe(self) -> dict[str, Any]:
        """What transfer.json holds."""
        return {
            "model": describe_calculator(self.model),
            "reference": describe_calculator(self.make_reference()),
            "molecules": [
                {
                    "name": molecule.name,
                    "formula": molecule.atoms.get_chemical_formula(mode="hill"),
                    "is_trained": k == 0,
                    REFERENCE: self._names_of(molecule, REFERENCE),
                    MODEL: self._names_of(molecule, MODEL),
                }
                for k, molecule in enumerate(self.molecules)
            ],
            "runs": [part.name for part in self.parts],
        }

    def _names_of(self, molecule: NamedMolecule, role: str) -> list[str]:
        n_runs = self.options.runs if role == MODEL else self.options.reference_runs
        return [part_name(molecule, role, number) for number in range(1, n_runs + 1)]

    # ------------------------------------------------------------------------------------------ checks

    def check(self) -> None:
        """Refuse what cannot be computed, or has none of the distributions.

        Raises
        ------
        StructureError
            If a calculator cannot compute a molecule, or a pattern is in none of them.
        """
        self._check_patterns()
        reference = self.make_reference()
        for part in {(part.molecule.name, part.start is None): part for part in self.parts}.values():
            is_model = part.start is not None
            atoms = part.molecule.atoms.copy()
            atoms.calc = self.model if is_model else reference
            _check_computable(part, atoms, is_model)

    def _check_patterns(self) -> None:
        for pattern in self.options.distributions or ():
            if not any(has_chain(molecule.atoms, pattern) for molecule in self.molecules):
                names = ", ".join(molecule.name for molecule in self.molecules)
                raise StructureError(
                    f"distributions: nothing in {names} matches {pattern!r}.",
                    name="distributions",
                    value=pattern,
                    remedy="Name elements as they are bonded (C-O, C-C-O), or leave distributions empty for "
                    "all without hydrogen",
                )


def reference_options(whole: Transfer, structure: str | None, seed: int) -> NVE:
    """Of a run of the reference: relaxed, equilibrated, with velocities of its own."""
    shared = whole.model_dump(include=set(NVE.model_fields) - OF_THE_WHOLE)
    return NVE(**shared, structure=structure, calculator=whole.reference, seed=seed)


def model_options(whole: Transfer, structure: str | None, seed: int) -> NVE:
    """Of a run of the model, which goes on from where a production of the reference begins."""
    own = {
        "calculator": whole.calculator,
        "relax": False,
        "equilibration_ps": 0.0,
        "velocities": "structure",
        "stop": whole.stop.model_copy(update={"wall_time_h": None}),
        "flag": whole.flag,
    }
    return reference_options(whole, structure, seed).model_copy(update=own)


def n_steps_of(options: NVE) -> int:
    """Steps of all stages, at most."""
    return sum(stage.n_steps for stage in options.checked_stages())


def _seed(seed: int, molecule: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, molecule, number]).generate_state(1)[0])


def part_name(molecule: NamedMolecule, role: str, number: int) -> str:
    """Name of a run, such as ethanol/model-1."""
    return f"{molecule.name}/{role}-{number}"


def _check_computable(part: PartPlan, atoms: Atoms, is_model: bool) -> None:
    try:
        if not is_model:  # what the options ask of the model was looked at before
            part.options.check_start(atoms)
        first_state(part.options, atoms)
    except AsecalcError as error:
        who, molecule = MODEL if is_model else REFERENCE, part.molecule.name
        name = describe_calculator(atoms.calc)["name"]
        reason = str(error).rstrip(".")
        raise StructureError(
            f"{molecule}: the {who} {name} cannot compute it: {reason}.",
            name=molecule,
            value=name,
            remedy=f"Leave {molecule} out of the test, or take another {who}",
        ) from error


def _names(specs: list[str | None], atoms: Atoms) -> list[str]:
    """Short names that can be folders; numbers where two files have the same."""
    names = [_short(spec) if spec else atoms.get_chemical_formula() for spec in specs]
    return [
        f"{name}-{names[:k].count(name) + 1}" if names.count(name) > 1 else name
        for k, name in enumerate(names)
    ]


def _short(spec: str) -> str:
    path = Path(spec.partition("@")[0])
    text = path.stem if path.suffix and path.is_file() else spec.removeprefix("smiles:")
    return re.sub(r"[^A-Za-z0-9._+()=-]+", "-", text).strip(".-") or "molecule"


__getattr__ = renamed(__name__, {"Molecule": "NamedMolecule", "Plan": "TransferPlan"})
