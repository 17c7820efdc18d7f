"""A potential with what makes it a model: heads, scales, shifts and reference values, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from asecalc_ml.contracts import plugin_code, returned
from asecalc_ml.graph.segments import segment_mean
from asecalc_ml.model.heads.head import OwnReadout, QuantityHead
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.targets.target import ENERGY, Kind, Quantity

N_ELEMENTS = 119  # index is the atomic number; 0 is ASE's dummy atom X

Pooling = Literal["sum", "mean"]


class ModelOutput(NamedTuple):
    """Values of a batch in eV (or the units of the quantities), float64.

    Parameters
    ----------
    atoms : Tensor, shape (n_atoms,) or (n_atoms, n_components)
        Scaled contributions with shifts; zero where the readout is not additive.
    systems : Tensor, shape (n_systems,) or (n_systems, n_values)
        Of a model of one scalar a number for each system; of others a row with all components of all
        quantities, in the order of the model's heads.
    potential : AtomOutput
        As the architecture returned it.
    """

    atoms: Tensor
    systems: Tensor
    potential: AtomOutput


class Model(nn.Module):
    r"""Scaled and shifted contributions of a potential, pooled over each system.

    .. math:: E = \sum_i \left( s_{Z_i} \, c_i + e_{Z_i} + v_i \right)

    with contributions c of the architecture, a scale s and a shift e per element, and electrostatic energies
    v where the architecture has them, which are in eV already. A readout that is not additive is scaled by
    the mean of its atoms' scales. The sum runs in float64: at -4210 eV, where rMD17 ethanol lies, float32
    steps by 0.5 meV. Quantities other than the energy have the same form, see
    :class:`asecalc_ml.model.heads.head.QuantityHead`.

    Parameters
    ----------
    potential : Potential
    scale, shift : Tensor, shape (119,), or (n_heads, 119) of several heads, float64
        Per atomic number, in the unit of the quantity.
    pooling : {"sum", "mean"}
        Of an energy; heads have their own.
    heads : sequence of QuantityHead
        One for each quantity; if empty, the potential's own readout is the energy.

    Attributes
    ----------
    is_scalar : bool
        True if the model predicts one scalar, a sum or mean over atoms.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        potential: Potential,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        pooling: Pooling = "sum",
        heads: Sequence[QuantityHead] = (),
    ):
        super().__init__()
        self.potential = potential
        self.heads = nn.ModuleList(heads or [OwnReadout(_energy(pooling))])
        n_heads = len(self.heads)
        self.is_scalar = n_heads == 1 and self.quantities[0].is_scalar
        shape = (N_ELEMENTS,) if n_heads == 1 else (n_heads, N_ELEMENTS)
        self.register_buffer("scale", torch.ones(shape, dtype=torch.float64) if scale is None else scale)
        self.register_buffer("shift", torch.zeros(shape, dtype=torch.float64) if shift is None else shift)

    @property
    def quantity_heads(self) -> list[QuantityHead]:
        """The heads, one for each quantity."""
        return cast(list[QuantityHead], list(self.heads))

    @property
    def quantities(self) -> list[Quantity]:
        """Quantities that the model predicts."""
        return [head.quantity for head in self.quantity_heads]

    @property
    def predicts_energy(self) -> bool:
        return self.quantities[0].name == ENERGY

    @property
    def pooling(self) -> Pooling:
        """How contributions become the first quantity; may be set for an energy."""
        return self.quantity_heads[0].pooling

    @pooling.setter
    def pooling(self, pooling: Pooling) -> None:
        self.heads[0] = OwnReadout(_energy(pooling))

    @property
    def dtype(self) -> torch.dtype:
        """The type the potential computes in; everything around it is float64."""
        tensors = chain(self.potential.parameters(), self.potential.buffers())
        return next((t.dtype for t in tensors if t.is_floating_point()), torch.float64)

    @property
    def cutoff(self) -> float:
        """Distance beyond which atoms do not see each other, Å."""
        return self.potential.cutoff

    @property
    def triplet_cutoff(self) -> float | None:
        """Length of edges up to which the potential needs triplets, Å."""
        return self.potential.triplet_cutoff

    @property
    def molecular_graph(self) -> bool:
        """True if the potential takes features of atoms and pairs."""
        return self.potential.molecular_graph

    @property
    def device(self) -> torch.device:
        return self.scale.device

    def set_dtype(self, dtype: torch.dtype) -> Model:
        """Change the type of potential and heads; scales and shifts stay in float64."""
        self.potential.to(dtype)
        self.heads.to(dtype)
        return self

    def forward(self, inputs: PotentialInput) -> ModelOutput:
        return self.combine(*self.outputs(inputs))

    def outputs(self, inputs: PotentialInput) -> tuple[AtomOutput, PotentialInput]:
        """Output of the potential, and the inputs in the type that it computes in."""
        inputs = self._cast(inputs)
        return self._output(inputs), inputs

    def combine(self, output: AtomOutput, inputs: PotentialInput) -> ModelOutput:
        """Values of atoms and systems from what the potential has returned for these inputs."""
        numbers = inputs.atomic_numbers
        if self.is_scalar:
            one = _combined(self.quantity_heads[0], output, inputs, self.scale[numbers], self.shift[numbers])
            return ModelOutput(*one, output)
        tables = zip(self.quantity_heads, _rows(self.scale), _rows(self.shift), strict=True)
        parts = [
            _combined(head, output, inputs, scale[numbers], shift[numbers]) for head, scale, shift in tables
        ]
        atoms, systems = ([_columns(values) for values in kind] for kind in zip(*parts, strict=True))
        return ModelOutput(torch.cat(atoms, dim=1), torch.cat(systems, dim=1), output)

    def by_name(self, systems: Tensor) -> dict[str, Tensor]:
        """Values of each quantity, shape (n_systems, ...), from the rows of a :class:`ModelOutput`."""
        columns = _columns(systems).split([head.n_values for head in self.quantity_heads], dim=1)
        quantities = self.quantities
        return {
            quantity.name: values.reshape(-1, *quantity.shape)
            for quantity, values in zip(quantities, columns, strict=True)
        }

    def _cast(self, inputs: PotentialInput) -> PotentialInput:
        """Inputs in the type that the potential computes in."""
        numbers = ("edge_vectors", "charge", "spin", "atom_features", "pair_features")
        present = {name: getattr(inputs, name) for name in numbers if getattr(inputs, name) is not None}
        return inputs._replace(**{name: tensor.to(self.dtype) for name, tensor in present.items()})

    def _output(self, inputs: PotentialInput) -> AtomOutput:
        """What the potential returns; PluginError where it raises an exception or returns something else."""
        what = f"{type(self.potential).__name__}.forward()"
        with plugin_code(what):
            output = self.potential(inputs)
        if not isinstance(output, AtomOutput):
            raise returned(what, output, "an AtomOutput (asecalc_ml.model.potential)")
        values = output.system if output.contributions is None else output.contributions
        if getattr(values, "ndim", None) != 2:
            raise returned(what, output, "contributions of shape (n_atoms, n_outputs), or values of systems")
        return output

    def pool(self, atoms: Tensor, inputs: PotentialInput) -> Tensor:
        """Sum, or mean, of values of atoms over each system, as the first quantity is pooled."""
        return self.quantity_heads[0].pool(atoms, inputs)


def _combined(
    head: QuantityHead, output: AtomOutput, inputs: PotentialInput, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Scaled and shifted values of atoms and systems; without columns for a scalar.

    Parameters
    ----------
    scale, shift : Tensor, shape (n_atoms,)
        Those of each atom's element.
    """
    readout = head(output, inputs)
    if not head.quantity.is_scalar:
        contributions = scale[:, None] * readout.contributions.double()
        atoms = contributions + shift[:, None] * head.identity(contributions)
        return atoms, head.finish(head.pool(atoms, inputs))
    if readout.contributions is None:
        assert readout.system is not None  # one of the two is there, see Model._output
        mean_scale = segment_mean(scale, inputs.batch, inputs.n_systems)
        systems = mean_scale * readout.system[:, 0].double() + head.pool(shift, inputs)
        return torch.zeros_like(shift), systems
    atoms = scale * readout.contributions[:, 0].double() + shift
    if readout.electrostatics is not None:
        atoms = atoms + readout.electrostatics.double()
    return atoms, head.pool(atoms, inputs)


def _rows(table: Tensor) -> list[Tensor]:
    """Values per element of each head, from a table of one or several."""
    return [table] if table.dim() == 1 else list(table)


def _columns(values: Tensor) -> Tensor:
    """Values with components as columns."""
    return values[:, None] if values.dim() == 1 else values


def _energy(pooling: Pooling) -> Quantity:
    """The energy as a quantity."""
    kind: Kind = "extensive scalar" if pooling == "sum" else "intensive scalar"
    return Quantity(name=ENERGY, unit="eV", kind=kind, pooling=pooling)
