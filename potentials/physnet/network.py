"""PhysNet: modules of interactions and residual blocks, each with an output of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asecalc_ml._lazy import renamed
from asecalc_ml.graph.segments import segment_mean, take
from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.potentials.physnet.electrostatics import conserved, coulomb_energies
from asecalc_ml.potentials.physnet.layers import ExpNormalBasis, InteractionModule, ModuleOutput

if TYPE_CHECKING:
    from asecalc_ml.potentials.physnet.options import PhysNet

TINY = 1e-7  # keeps the penalty finite where two modules put out nothing, as at the start


class PhysNetPotential(Potential):
    """PhysNet of Unke and Meuwly, J. Chem. Theory Comput. 15, 3678 (2019), arXiv:1902.08408.

    ========================================= ===============================================
    paper                                     code
    ========================================= ===============================================
    embedding                                 ``embedding``
    radial functions g_k                      ``radial_basis``
    modules                                   ``interaction_modules``
    outputs, scale and shift per element      ``output``
    charge correction, damped Coulomb         :mod:`asecalc_ml.potentials.physnet.electrostatics`
    dispersion                                a correction, :mod:`asecalc_ml.calculators.corrections`
    ========================================= ===============================================

    Weights start as in the authors' code: masks and outputs at zero, all others orthogonal.

    Parameters
    ----------
    options : PhysNet
    """

    def __init__(self, options: PhysNet):
        super().__init__()
        self.short_cutoff = options.cutoff_A
        self.cutoff = options.coulomb_cutoff_A if options.charges else options.cutoff_A
        self.partial_charges = options.charges
        self.takes = frozenset({"charge"} if options.charges else ())
        width = options.hidden_channels
        self.embedding = nn.Embedding(options.max_atomic_number + 1, width)
        nn.init.uniform_(self.embedding.weight, -(3**0.5), 3**0.5)
        self.radial_basis = ExpNormalBasis(options.n_rbf, options.cutoff_A)
        self.interaction_modules = nn.ModuleList(
            InteractionModule(width, options.n_rbf, options.n_residual_interaction, options.n_residual_atomic)
            for _ in range(options.n_layers)
        )
        self.output = PhysNetReadout(options)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        distances = torch.linalg.vector_norm(inputs.edge_vectors, dim=1)
        basis = self.radial_basis(distances)
        # Features after each module; every module has an output of its own.
        x, states = self.embedding(inputs.atomic_numbers), []
        for module in self.interaction_modules:
            x = module(x, basis, inputs.edge_index)
            states.append(x)
        output = self.output(states, inputs)
        if output.charges is None:
            return output
        # Coulomb energy between the partial charges, to a longer cutoff.
        energies = coulomb_energies(
            output.charges, distances, inputs.edge_index, self.short_cutoff, self.cutoff
        )
        return output._replace(electrostatics=energies)

    @property
    def embeddings(self) -> list[nn.Module]:
        return [self.embedding]

    @property
    def interactions(self) -> nn.ModuleList:
        return self.interaction_modules

    @property
    def attentions(self) -> list[nn.Module]:
        """The attention masks, a weight for each feature."""
        return [module.get_submodule("mask") for module in self.interaction_modules]

    @property
    def readout(self) -> nn.Module:
        return self.output

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        weight = [module.get_parameter("linear.weight")[:1] for module in self.output.outputs]
        one = torch.ones_like(weight[0][:, :1])  # of the shift, which is the last feature
        return torch.cat([*weight, one], dim=1), torch.zeros_like(one[0])


class PhysNetReadout(nn.Module):
    r"""Sums of all modules' outputs, with a trained scale and shift per element.

    .. math:: E_i = s_{Z_i} \sum_m y^m_i + c_{Z_i}

    and charges in the same way. Column 0 of the outputs is the energy, column 1 the charge. Features are
    the last hidden layers of all modules times the scale, and the shift.
    """

    def __init__(self, options: PhysNet):
        super().__init__()
        n_elements, n_outputs = options.max_atomic_number + 1, 2 if options.charges else 1
        self.outputs = nn.ModuleList(
            ModuleOutput(options.hidden_channels, options.n_residual_output, n_outputs)
            for _ in range(options.n_layers)
        )
        self.scale = nn.Parameter(torch.ones(n_elements, n_outputs))
        self.shift = nn.Parameter(torch.zeros(n_elements, n_outputs))

    def forward(self, states: Sequence[Tensor], inputs: PotentialInput) -> AtomOutput:
        # y_i^m of each module: energy, and charge where there are charges.
        hidden, outputs = zip(
            *(output(x) for output, x in zip(self.outputs, states, strict=True)), strict=True
        )
        # s_{Z_i} Σ_m y_i^m + c_{Z_i}
        scale, shift = take(self.scale, inputs.atomic_numbers), take(self.shift, inputs.atomic_numbers)
        values = scale * torch.stack(outputs).sum(dim=0) + shift
        features = torch.cat([scale[:, :1] * torch.cat(hidden, dim=1), shift[:, :1]], dim=1)
        # Charges are corrected to sum to the total charge.
        charges = conserved(values[:, 1], inputs.charge, inputs.batch) if values.shape[1] == 2 else None
        penalty = nonhierarchicality(torch.stack(outputs), inputs.batch, inputs.n_systems)
        return AtomOutput(features, values[:, :1], charges=charges, penalty=penalty)


def nonhierarchicality(outputs: Tensor, batch: Tensor, n_systems: int) -> Tensor:
    r"""How far outputs are from falling off with the number of the module, shape (n_systems,).

    .. math:: \frac{1}{N} \sum_i \sum_{m \ge 2} \frac{(y_i^m)^2}{(y_i^m)^2 + (y_i^{m-1})^2}

    and, as in the authors' code, the mean over energy and charge.

    Parameters
    ----------
    outputs : Tensor, shape (n_modules, n_atoms, n_outputs)
    batch : Tensor, shape (n_atoms,), int64
    """
    squares = outputs**2
    ratios = squares[1:] / (squares[1:] + squares[:-1] + TINY)
    return segment_mean(ratios.mean(dim=2).sum(dim=0), batch, n_systems)


__getattr__ = renamed(__name__, {"Readout": "PhysNetReadout"})
