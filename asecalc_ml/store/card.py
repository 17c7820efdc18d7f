"""The model card: everything a model says about itself. It travels in the header of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.statistics.histogram import Histogram
from asecalc_ml.targets.target import ENERGY, Quantity
from asecalc_ml.units import number_with_unit

SCHEMA_VERSION: Final = 1


class DatasetCard(Options):
    """Where the training labels come from."""

    name: str = Field(description="name of the data")
    level_of_theory: str | None = Field(None, description="method and basis of the labels")
    zeros: dict[str, str] = Field(
        {}, description="what values are relative to, by quantity, such as free atoms; unknown if not stated"
    )
    temperature_K: float | list[float] | None = Field(None, description="temperature of the sampling")
    licence: str | None = Field(None, description="licence of the data")
    citation: str | None = Field(None, description="what to cite for the data")
    hash: str | None = Field(None, description="SHA-256 of the training frames")
    validation_hash: str | None = Field(None, description="SHA-256 of the frames that chose the best epoch")
    test_hash: str | None = Field(None, description="SHA-256 of the test frames")
    n_train: int | None = Field(None, description="frames trained on")
    n_validation: int | None = Field(None, description="frames the best epoch was chosen by")


class Ancestor(Options):
    """A model whose weights a training started from."""

    name: str = Field(description="name in the registry")
    hash: str | None = Field(None, description="SHA-256 of its file")
    data: str | None = Field(None, description="name of its training data")
    level_of_theory: str | None = Field(None, description="method and basis of its labels")
    zeros: dict[str, str] = Field({}, description="what its values are relative to, by quantity")
    knows_frames: bool = Field(
        False, description="whether its file holds fingerprints of the frames that it was trained on"
    )


class QuantityErrors(Options):
    """Errors of one quantity other than the energy, in its unit, over all components."""

    unit: str = Field(description="unit of the quantity")
    n_labelled: int = Field(description="test frames that have the label")
    mae: float = Field(description="mean absolute error")
    rmse: float = Field(description="root mean square error")
    spread: float = Field(
        description="standard deviation of the labels; of vectors and tensors the root mean square component"
    )

    def __str__(self) -> str:
        mae, rmse = (number_with_unit(f"{error:.4g}", self.unit) for error in (self.mae, self.rmse))
        relative = f" ({100 * self.mae / self.spread:.3g} % of the labels' spread)" if self.spread else ""
        return f"MAE {mae}{relative}, RMSE {rmse}"


class Metrics(Options):
    """Errors on test frames."""

    n_frames: int = Field(description="test frames")
    n_copies: int = Field(
        0, description="test frames that are copies of frames that trained the model or chose its epoch"
    )
    labelled: dict[str, int] | None = Field(
        None, description="test frames with each label, where some lack one; errors are means over them"
    )
    energy_mae_meV: float | None = Field(
        None, description="mean absolute error of the energy of a frame, meV"
    )
    energy_rmse_meV: float | None = Field(
        None, description="root mean square error of the energy of a frame, meV"
    )
    forces_mae_meV_A: float | None = Field(
        None, description="mean absolute error of a force component, meV/Å"
    )
    forces_rmse_meV_A: float | None = Field(
        None, description="root mean square error of a force component, meV/Å"
    )
    energy_mae_meV_atom: float | None = Field(
        None, description="mean absolute error of the energy per atom, meV"
    )
    energy_rmse_meV_atom: float | None = Field(
        None, description="root mean square error of the energy per atom, meV"
    )
    stress_mae_GPa: float | None = Field(None, description="mean absolute error of a stress component, GPa")
    stress_rmse_GPa: float | None = Field(
        None, description="root mean square error of a stress component, GPa"
    )
    dipole_mae_mD: float | None = Field(None, description="mean absolute error of a dipole component, mD")
    dipole_rmse_mD: float | None = Field(None, description="root mean square error of a dipole component, mD")
    quantities: dict[str, QuantityErrors] = Field(
        {}, description="errors of quantities other than the energy, by name"
    )


class UncertaintyCard(Options):
    """How the uncertainty of a scalar from last-layer features was fitted, in the unit of the quantity."""

    data: str = Field(description="data of the structures")
    n_train: int = Field(description="structures whose features H is a sum over")
    n_validation: int = Field(description="structures that alpha and varsigma were fitted to")
    n_features: int = Field(description="features of the last layer, with a constant for its bias")
    alpha: float = Field(description="factor of the standard deviation, in the unit of the quantity")
    varsigma: float = Field(description="regularizer: varsigma² is added to the diagonal of H")
    rmse: float = Field(description="root mean square error on the validation structures")
    rms_std: float = Field(description="root mean square standard deviation on the validation structures")
    miscalibration_area: float = Field(description="on the validation structures, which it was fitted to")
    spearman: float | None = Field(
        description="rank correlation of standard deviations and absolute errors on the validation structures"
    )

    def __str__(self) -> str:
        rank = "" if self.spearman is None else f", rank correlation with the error {self.spearman:.2f}"
        return (
            f"alpha {self.alpha:.4g}, {self.n_features} features of {self.n_train:,} training structures, "
            f"fitted to {self.n_validation:,} validation structures (RMSE {self.rmse:.4g}, standard "
            f"deviation {self.rms_std:.4g}, miscalibration area {self.miscalibration_area:.3f}{rank})"
        )


class SearchCard(Options):
    """The trial of a hyperparameter search that a training takes its options from."""

    name: str = Field(description="name of the search")
    method: str = Field(description="how values were proposed: random, or bayesian with its surrogate")
    trials: int = Field(description="trials that had ended")
    trial: int = Field(description="number of the trial")
    objectives: dict[str, float] = Field(
        description="its values, by objective; validation frames chose the trial, so that these are lower "
        "than errors on new frames"
    )
    values: dict[str, Any] = Field(description="its value of each option of the space")


class Domain(Options):
    """What the training frames cover.

    Distances are kept apart by topological class of the pair, since a range over all pairs cannot see a
    broken bond: ethanol's C–O pairs run from 1.33 to 2.75 Å with nothing between 1.63 and 2.11 Å.
    """

    distances: dict[str, Histogram] = Field(description="Å, by 'C-O bonded', 'C-O 1-3', ...")
    angles: dict[str, Histogram] = Field(description="degrees, bonded triples, by 'C-C-O', ...")
    dihedrals: dict[str, Histogram] = Field(
        {}, description="degrees from -180, chains of three bonds, by 'C-C-O-H', ...; none in older cards"
    )
    energy_eV: tuple[float, float] | None = Field(
        None,
        description="lowest and highest energy of a frame; none where the model predicts other quantities",
    )
    values: dict[str, tuple[float, float]] = Field(
        {}, description="lowest and highest value (of tensors: component) of other quantities, in their units"
    )
    largest_force_eV_A: float | None = Field(None, description="largest norm of a force")


class Golden(Options):
    """One structure with its energy and forces, or other values, in float64 when the model was made."""

    atomic_numbers: list[int] = Field(description="atomic numbers")
    positions_A: list[list[float]] = Field(description="positions, Å")
    cell_A: list[list[float]] = Field(description="cell vectors as rows, Å")
    pbc: list[bool] = Field(description="periodic directions")
    charge: int = Field(0, description="total charge, e")
    spin: int = Field(0, description="unpaired electrons")
    smiles: str = Field("", description="bonds, for a model that takes a molecular graph, if they are stated")
    energy_eV: float | None = Field(None, description="energy; none of a model of other quantities")
    forces_eV_A: list[list[float]] | None = Field(None, description="forces")
    values: dict[str, list[float]] = Field(
        {}, description="components of the quantities other than the energy, by name, in their units"
    )

    @model_validator(mode="after")
    def _has_shapes(self) -> Golden:
        n_atoms = len(self.atomic_numbers)
        for name, n_rows in (("positions_A", n_atoms), ("forces_eV_A", n_atoms), ("cell_A", 3)):
            rows = getattr(self, name)
            if rows is not None and [len(row) for row in rows] != [3] * n_rows:
                raise ValueError(f"{name} should have {n_rows} rows of 3 numbers")
        if (self.energy_eV is None) != (self.forces_eV_A is None) or (self.energy_eV is None) != bool(
            self.values
        ):
            raise ValueError("energy_eV and forces_eV_A should be there together, or values in their place")
        if len(self.pbc) != 3 or not all(0 < number < 119 for number in self.atomic_numbers):
            raise ValueError("pbc should be 3 values, and atomic_numbers lie between 1 and 118")
        return self


class ModelCard(Options):
    """A model's identity, origin, errors and domain."""

    schema_version: Literal[1] = Field(SCHEMA_VERSION, description="version of this schema")
    name: str = Field(description="name in the registry")
    architecture: str = Field(description="registered architecture")
    architecture_source: str | None = Field(
        None,
        description="hash of the architecture's code, package and version, such as '8d3f0b3c91aa5e70 "
        "(my-net 1.0)'; none for an architecture of this package",
    )
    hyperparameters: dict[str, Any] = Field(description="options of the architecture")
    quantities: list[Quantity] = Field(min_length=1, description="what the model predicts")
    corrections: list[dict[str, dict[str, Any]]] = Field(
        [], description="analytic terms that belong to every energy of the model, with all their options"
    )
    cutoff_A: float = Field(description="distance beyond which atoms do not see each other, Å")
    triplet_cutoff_A: float | None = Field(
        None, description="length of edges up to which the architecture needs triplets, Å"
    )
    molecular_graph: bool = Field(
        False, description="whether the architecture takes features of atoms and pairs, and so molecules only"
    )
    continuous: bool = Field(description="whether the energy is continuous where an atom crosses the cutoff")
    partial_charges: bool = Field(False, description="whether the model gives charges of atoms, and dipoles")
    n_parameters: int = Field(description="number of trained parameters")
    elements: list[str] = Field(description="elements of the training data")
    charges: list[int] = Field([0], description="total charges in the training data")
    spins: list[int] = Field([0], description="numbers of unpaired electrons in the training data")
    dtype: Literal["float32", "float64"] = Field(description="type the potential was trained in")
    fitted: list[str] = Field(
        ["energy", "forces"],
        description="labels that the loss had; an energy that is not among them follows from forces, with a "
        "constant per element fitted to the training energies",
    )
    energies_degenerate: bool = Field(
        description="whether energies of other compositions than those of the training data have no zero, as "
        "the data do not tell the elements apart"
    )
    compositions: list[str] = Field(
        [], description="formulas of the training data, where energies_degenerate; empty for that of golden"
    )
    dataset: DatasetCard | None = Field(None, description="training data")
    ancestors: list[Ancestor] = Field(
        [], description="models that the weights come from, the one that the training started from first"
    )
    metrics: Metrics | None = Field(None, description="errors on held-out frames")
    uncertainty: dict[str, UncertaintyCard] = Field(
        {}, description="uncertainty of each scalar from last-layer features, by name; none in older models"
    )
    domain: Domain | None = Field(None, description="what the training data cover")
    golden: Golden = Field(description="a structure to check the model by")
    versions: dict[str, str] = Field({}, description="packages the model was made with")
    created: str = Field("", description="date, ISO 8601")
    training_cpu_h: float | None = Field(
        None, description="time of all processor cores that training took, compiling aside, hours"
    )
    notes: list[str] = Field([], description="what was found out later, such as how far dynamics was tried")
    options: dict[str, Any] = Field({}, description="the training's options")
    search: SearchCard | None = Field(None, description="the hyperparameter search that chose them")

    @model_validator(mode="before")
    @classmethod
    def _name_its_quantity(cls, data: Any) -> Any:
        """Cards of older versions name one property, which is the energy, with its unit and pooling."""
        if not isinstance(data, Mapping) or "quantities" in data:
            return data
        former = {"property": ENERGY, "unit": "eV", "pooling": "sum"}
        name, unit, pooling = (data.get(key, default) for key, default in former.items())
        kind = "extensive scalar" if pooling == "sum" else "intensive scalar"
        quantity = {"name": name, "unit": unit, "kind": kind, "pooling": pooling}
        rest = {key: value for key, value in data.items() if key not in former}
        return {**rest, "quantities": [quantity]}

    @model_validator(mode="before")
    @classmethod
    def _name_its_ancestor(cls, data: Any) -> Any:
        """Cards of older versions name the model that they started from among the options alone."""
        if not isinstance(data, Mapping) or "ancestors" in data:
            return data
        options = data.get("options")
        parent = options.get("init_from") if isinstance(options, Mapping) else None
        return {**data, "ancestors": [{"name": parent}]} if parent else data

    @model_validator(mode="after")
    def _golden_values_of_its_quantities(self) -> ModelCard:
        expected = {one.name: len(one.components) for one in self.quantities if one.name != ENERGY}
        if len(expected) < len(self.quantities) - 1 or self.predicts_energy == bool(expected):
            raise ValueError("quantities should be the energy alone, or others of different names")
        if {name: len(values) for name, values in self.golden.values.items()} != expected:
            raise ValueError("golden should hold the values of all quantities other than the energy")
        return self

    @property
    def predicts_energy(self) -> bool:
        """True if the model has energies and forces, and not other quantities."""
        return self.quantities[0].name == ENERGY

    @property
    def predicted(self) -> str:
        """Names of the quantities, for messages."""
        return ", ".join(quantity.name for quantity in self.quantities)

    @property
    def zeros(self) -> dict[str, str]:
        """Zeros of the predicted values, by quantity, as far as the training data state them."""
        return self.dataset.zeros if self.dataset else {}

    def unknown_ancestors(self) -> list[str]:
        """Names of the models that it started from whose training frames are not known."""
        return [ancestor.name for ancestor in self.ancestors if not ancestor.knows_frames]

    def knows_energies_of(self, numbers: Sequence[int]) -> bool:
        """Whether energies of this composition have the training data's zero.

        Parameters
        ----------
        numbers : sequence of int
            Atomic numbers.
        """
        known = self.compositions or [formula_of(self.golden.atomic_numbers)]
        return not self.energies_degenerate or formula_of(numbers) in known


def formula_of(numbers: Sequence[int]) -> str:
    """Hill formula of atomic numbers.

    Examples
    --------
    >>> formula_of([8, 1, 1])
    'H2O'
    """
    from ase.symbols import Symbols

    return Symbols(numbers).get_chemical_formula(mode="hill")
