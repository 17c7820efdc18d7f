"""A potential with what makes it a model: scales, shifts and reference energies, in float64."""

from __future__ import annotations

from itertools import chain
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from asecalc_ml.contracts import plugin_code, returned
from asecalc_ml.graph.segments import segment_mean, segment_sum
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput

N_ELEMENTS = 119  # index is the atomic number; 0 is ASE's dummy atom X

Pooling = Literal["sum", "mean"]


class ModelOutput(NamedTuple):
    """Values of a batch in eV (or the property's unit), float64.

    Parameters
    ----------
    atoms : Tensor, shape (n_atoms,)
        Scaled contributions with shifts; zero where the readout is not additive.
    systems : Tensor, shape (n_systems,)
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
    steps by 0.5 meV.

    Parameters
    ----------
    potential : Potential
    scale, shift : Tensor, shape (119,), float64
        Per atomic number, in the unit of the property.
    pooling : {"sum", "mean"}
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        potential: Potential,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        pooling: Pooling = "sum",
    ):
        super().__init__()
        self.potential = potential
        self.pooling = pooling
        self.register_buffer("scale", torch.ones(N_ELEMENTS, dtype=torch.float64) if scale is None else scale)
        self.register_buffer(
            "shift", torch.zeros(N_ELEMENTS, dtype=torch.float64) if shift is None else shift
        )

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
    def device(self) -> torch.device:
        return self.scale.device

    def set_dtype(self, dtype: torch.dtype) -> Model:
        """Change the potential's type; scales and shifts stay in float64."""
        self.potential.to(dtype)
        return self

    def forward(self, inputs: PotentialInput) -> ModelOutput:
        return self.combine(self._output(inputs), inputs)

    def combine(self, output: AtomOutput, inputs: PotentialInput) -> ModelOutput:
        """Values of atoms and systems from what the potential has returned for these inputs."""
        scale, shift = self.scale[inputs.atomic_numbers], self.shift[inputs.atomic_numbers]
        if output.contributions is None:
            assert output.system is not None  # one of the two is there, see _output
            mean_scale = segment_mean(scale, inputs.batch, inputs.n_systems)
            systems = mean_scale * output.system[:, 0].double() + self.pool(shift, inputs)
            return ModelOutput(torch.zeros_like(shift), systems, output)
        atoms = scale * output.contributions[:, 0].double() + shift
        if output.electrostatics is not None:
            atoms = atoms + output.electrostatics.double()
        return ModelOutput(atoms, self.pool(atoms, inputs), output)

    def _output(self, inputs: PotentialInput) -> AtomOutput:
        """What the potential returns; PluginError where it raises an exception or returns something else."""
        dtype, what = self.dtype, f"{type(self.potential).__name__}.forward()"
        with plugin_code(what):
            output = self.potential(
                inputs._replace(
                    edge_vectors=inputs.edge_vectors.to(dtype),
                    charge=inputs.charge.to(dtype),
                    spin=inputs.spin.to(dtype),
                )
            )
        if not isinstance(output, AtomOutput):
            raise returned(what, output, "an AtomOutput (asecalc_ml.model.potential)")
        values = output.system if output.contributions is None else output.contributions
        if getattr(values, "ndim", None) != 2:
            raise returned(what, output, "contributions of shape (n_atoms, n_outputs), or values of systems")
        return output

    def pool(self, atoms: Tensor, inputs: PotentialInput) -> Tensor:
        """Sum, or mean, of values of atoms over each system, shape (n_systems,)."""
        pool = segment_mean if self.pooling == "mean" else segment_sum
        return pool(atoms, inputs.batch, inputs.n_systems)
