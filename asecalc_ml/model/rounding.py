r"""How far rounding takes apart two evaluations that should be one.

With the unit roundoff :math:`\epsilon` of the arithmetic, the energy is uncertain by

.. math:: \epsilon \Big( \sum_i |s_i| \big( \sum_k |w_k f_{ik}| + |b| \big) + |v_i|
    + \sum_{ij} |g_{ij}| |r_{ij}| \Big) + \delta E.

The first sum has the terms of each contribution: weights and bias of the last linear map, features, scale,
and the electrostatic energies :math:`v_i`. Shifts are float64 and do not count. The second sum, over the
edges :math:`r_{ij}` and the edge derivative :math:`g_{ij}`, is what a relative error :math:`\epsilon` of each
edge vector does. A force is uncertain by :math:`\epsilon \sum_j (|g_{ij}| + |g_{ji}|) + \delta F`. The last
terms :math:`\delta` are what the model itself makes of edge vectors that differ by :math:`\epsilon`: the
curvature of the energy, and the rounding inside the network on this device.

For all shipped models, float32 differs from float64 by at most 1.1 times the uncertainty. For untrained
models of all architectures, whose energies span 14 orders of magnitude, it is 2.1 times.
:data:`SAFETY` covers these, other orders of summation, and that both evaluations are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from asecalc_ml.graph.segments import segment_mean, segment_sum
from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative, forces

if TYPE_CHECKING:
    from asecalc_ml.model.model import Model
    from asecalc_ml.model.potential import PotentialInput

#: Of the arithmetic. That of float64 leaves 16 bits for functions of other libraries and processors, and for
#: tables that are not exact to the last bit.
ROUNDOFF = {torch.float32: 2.0**-23, torch.float64: 2.0**-36}
SAFETY = 16
N_DRAWS = 3


class Rounding(NamedTuple):
    """Largest deviations that rounding explains.

    Parameters
    ----------
    atoms : Tensor, shape (), eV
        Of an atom's energy.
    systems : Tensor, shape (n_systems,), eV
    gradient : Tensor, shape (), eV/Å
        Of a component of the edge derivative.
    charges : Tensor, shape (), e
    penalty : Tensor, shape ()
    forces : Tensor, shape (n_atoms, 1), eV/Å
        Of a component of a force.
    """

    atoms: Tensor
    systems: Tensor
    gradient: Tensor
    charges: Tensor
    penalty: Tensor
    forces: Tensor

    def allows(self, evaluated: EdgeDerivative, expected: EdgeDerivative) -> bool:
        """Return True if two evaluations agree; NaN agrees with nothing."""
        pairs = zip(evaluated, expected, self[: len(expected)], strict=True)
        return all(bool(((value - reference).abs() <= bound).all()) for value, reference, bound in pairs)


@torch.no_grad()
def rounding(model: Model, inputs: PotentialInput, evaluated: EdgeDerivative) -> Rounding:
    """Bounds for a model in its type, on its device, at these inputs.

    Parameters
    ----------
    evaluated : EdgeDerivative
        Of the model, evaluated eagerly.
    """
    # ε Σ|terms| and δ, the change when edge vectors change by ε; SAFETY times their sum
    roundoff = ROUNDOFF[model.dtype]
    sizes, scatter = _sizes(model, inputs, evaluated), _scatter(model, inputs, evaluated, roundoff)
    return Rounding(
        *(SAFETY * (roundoff * size + change) for size, change in zip(sizes, scatter, strict=True))
    )


def perturbed(inputs: PotentialInput, roundoff: float) -> list[PotentialInput]:
    """Inputs whose edge vectors differ in each component by a random part of their last bit."""
    generator = torch.Generator().manual_seed(0)
    vectors = (_moved(inputs.edge_vectors, roundoff, generator) for _ in range(N_DRAWS))
    return [inputs._replace(edge_vectors=moved) for moved in vectors]


@torch.no_grad()
def rounding_of(function: Callable[..., Sequence[Tensor]], arguments: Sequence[Tensor]) -> list[Tensor]:
    """Bounds for each result of a function of tensors, shape (), as :func:`rounding` has them for a model.

    Parameters
    ----------
    function : callable
    arguments : sequence of Tensor
        Those that are not integers have one type, in which the function computes.
    """
    roundoff = max(ROUNDOFF[a.dtype] for a in arguments if a.is_floating_point())
    expected = function(*arguments)
    bounds = [roundoff * _largest(result) for result in expected]
    generator = torch.Generator().manual_seed(0)
    for _ in range(N_DRAWS):
        others = function(*(_moved(argument, roundoff, generator) for argument in arguments))
        changes = [_largest(other - result) for other, result in zip(others, expected, strict=True)]
        bounds = [torch.maximum(bound, change) for bound, change in zip(bounds, changes, strict=True)]
    return [SAFETY * bound for bound in bounds]


def _moved(values: Tensor, roundoff: float, generator: torch.Generator) -> Tensor:
    """Values that differ by a random part of their last bit; integers stay."""
    if not values.is_floating_point():
        return values
    draws = torch.rand(values.shape, generator=generator, dtype=torch.float64)
    return values * (1 + roundoff * (2 * draws - 1)).to(values)


def _sizes(model: Model, inputs: PotentialInput, evaluated: EdgeDerivative) -> Rounding:
    """Sums of the absolute values of what each quantity is a sum of."""
    output = model(inputs).potential
    scale = model.scale[inputs.atomic_numbers].abs()
    if output.contributions is None:
        assert output.system is not None  # one of the two is there: the model has checked it
        atoms = torch.zeros_like(scale)
        systems = segment_mean(scale, inputs.batch, inputs.n_systems) * output.system[:, 0].double().abs()
    else:
        # Σ |features w| + |b| of the last linear map, and electrostatics, for each atom
        weight, bias = model.potential.last_linear
        atoms = scale * (output.features.abs() @ weight[0].abs() + bias[0].abs()).double()
        atoms = atoms if output.electrostatics is None else atoms + output.electrostatics.double().abs()
        systems = model.pool(atoms, inputs)
    # |g_ij| |r_ij| of every edge, summed over the edges of an atom and of a system
    lengths = evaluated.gradient.norm(dim=1)
    work = lengths * inputs.edge_vectors.norm(dim=1)
    centres, neighbors = inputs.edge_index
    on_atoms = segment_sum(work, centres, inputs.n_atoms)
    # Σ_j (|g_ij| + |g_ji|), what the forces of an atom are a sum of
    pulls = segment_sum(lengths, centres, inputs.n_atoms) + segment_sum(lengths, neighbors, inputs.n_atoms)
    return Rounding(
        atoms=_largest(atoms + on_atoms),
        systems=systems + segment_sum(work, inputs.batch[centres], inputs.n_systems),
        gradient=_largest(evaluated.gradient),
        charges=_largest(evaluated.charges),
        penalty=_largest(evaluated.penalty),
        forces=pulls[:, None],
    )


def _scatter(model: Model, inputs: PotentialInput, evaluated: EdgeDerivative, roundoff: float) -> Rounding:
    """Largest changes of the evaluation when edge vectors change by the roundoff."""
    changes = []
    for moved in perturbed(inputs, roundoff):
        other = edge_derivative(model, moved)
        difference = EdgeDerivative(*(after - before for after, before in zip(other, evaluated, strict=True)))
        pull = forces(difference.gradient, inputs.edge_index, inputs.n_atoms)
        changes.append(
            Rounding(
                atoms=_largest(difference.atoms),
                systems=difference.systems.abs(),
                gradient=_largest(difference.gradient),
                charges=_largest(difference.charges),
                penalty=_largest(difference.penalty),
                forces=_largest(pull),
            )
        )
    return Rounding(*(torch.stack(draws).amax(dim=0) for draws in zip(*changes, strict=True)))


def _largest(values: Tensor) -> Tensor:
    """0 of nothing; nan where there is one."""
    return values.abs().max() if values.numel() else values.new_zeros(())
