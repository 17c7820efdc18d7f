r"""Uncertainty of scalars from the last layer of a network, at the price of one pass without a derivative.

A scalar is linear in weights w and bias b of its last layer, :math:`y = F \cdot (w, b) + \ldots`, with

.. math:: F = \operatorname{pool}_i \left( s_{Z_i} (f_i, 1) \right)

for features f of the atoms (times their weights in a softmax-weighted mean), a scale s per element, and the
pooling of the quantity. With the features of the training structures

.. math:: H = \sum_\mathrm{train} F F^T, \qquad \sigma^2 = \alpha^2 F^T (H + \varsigma^2 1)^{-1} F

(F. Bigi, S. Chong, M. Ceriotti, F. Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024),
arXiv:2403.02251). That is the variance of Bayesian ridge regression on these features, without the noise of
the labels. :mod:`asecalc_ml.potentials.training.calibration.last_layer` fits α and ς.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from asecalc_ml.graph.segments import segment_mean
from asecalc_ml.model.heads.head import ScalarHead
from asecalc_ml.targets.target import STD

if TYPE_CHECKING:
    from asecalc_ml.model.model import Model
    from asecalc_ml.model.potential import AtomOutput, PotentialInput


def last_layer_features(model: Model, output: AtomOutput, inputs: PotentialInput) -> dict[str, Tensor]:
    """Features F of each structure, by the name of each scalar that a head with a last linear layer gives.

    Parameters
    ----------
    model : Model
    output, inputs
        As :meth:`asecalc_ml.model.model.Model.outputs` returns them.

    Returns
    -------
    dict of Tensor, shape (n_systems, n_features + 1), float64
        Derivatives of the scalar by the weights and the bias of its last layer.
    """
    scales = model.scale.view(len(model.heads), -1)[:, inputs.atomic_numbers]
    return {
        head.quantity.name: _features(head, output, inputs, scale)
        for head, scale in zip(model.quantity_heads, scales, strict=True)
        if isinstance(head, ScalarHead)
    }


def _features(head: ScalarHead, output: AtomOutput, inputs: PotentialInput, scale: Tensor) -> Tensor:
    readout = head(output, inputs)
    constant = torch.ones_like(readout.features[:, :1])
    atoms = scale[:, None] * torch.cat([readout.features, constant], dim=1).double()
    if readout.contributions is None:  # all atoms have the features of the structure
        return segment_mean(atoms, inputs.batch, inputs.n_systems)
    return head.pool(atoms, inputs)


@dataclass(frozen=True)
class LastLayerUncertainty:
    r"""Standard deviations of scalars from last-layer features.

    Parameters
    ----------
    factors : mapping of str to ndarray, shape (n_features + 1, n_features + 1), float64
        Lower Cholesky factor L of :math:`(H + \varsigma^2 1) / \alpha^2` by the name of the quantity, so that
        :math:`\sigma = |L^{-1} F|`.
    """

    factors: Mapping[str, np.ndarray]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> LastLayerUncertainty | None:
        """Reverse of :meth:`arrays`; None if there are none.

        Raises
        ------
        ValueError
            If an array is no triangle with positive numbers on its diagonal.
        """
        return cls({name: _square(name, packed) for name, packed in arrays.items()}) if arrays else None

    def arrays(self) -> dict[str, np.ndarray]:
        """The lower triangles row by row, by the name of the quantity."""
        return {name: factor[np.tril_indices(len(factor))] for name, factor in self.factors.items()}

    @property
    def names(self) -> list[str]:
        """Names of the standard deviations among results."""
        return [name + STD for name in self.factors]

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(factor) for name, factor in self.factors.items()}

    def deviations(self, model: Model, output: AtomOutput, inputs: PotentialInput) -> dict[str, Tensor]:
        """Standard deviations of each structure, shape (n_systems,), float64, by their names among results.

        Parameters
        ----------
        model : Model
        output, inputs
            As :meth:`asecalc_ml.model.model.Model.outputs` returns them.
        """
        features = last_layer_features(model, output, inputs)
        return {
            name + STD: _norms(factor.to(model.device), features[name])
            for name, factor in self._tensors.items()
        }


def _norms(factor: Tensor, features: Tensor) -> Tensor:
    """|L⁻¹ F| of each row F."""
    return torch.linalg.solve_triangular(factor, features.T, upper=False).norm(dim=0)


def _square(name: str, packed: np.ndarray) -> np.ndarray:
    """Matrix of a lower triangle that is given row by row."""
    n_rows = int((np.sqrt(8 * packed.size + 1) - 1) / 2)
    factor = np.zeros((n_rows, n_rows))
    if packed.dtype != np.float64 or packed.shape != (n_rows * (n_rows + 1) // 2,):
        raise ValueError(f"{name} should be a lower triangle in float64, row by row")
    factor[np.tril_indices(n_rows)] = packed
    if not (np.isfinite(packed).all() and (np.diag(factor) > 0).all()):
        raise ValueError(f"{name} should be finite, with a diagonal above zero")
    return factor
