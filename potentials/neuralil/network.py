"""NeuralIL on our edges."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from asecalc_ml.model.potential import AtomOutput, Potential, PotentialInput
from asecalc_ml.potentials.neuralil.power_spectrum import PowerSpectrum

if TYPE_CHECKING:
    from asecalc_ml.potentials.neuralil.options import NeuralIL


class NeuralILPotential(Potential):
    """NeuralIL of Montes-Campos et al., J. Chem. Inf. Model. 62, 88 (2022).

    ======================================= ===============================
    paper                                   code
    ======================================= ===============================
    spherical Bessel descriptors            ``descriptors``
    embedding of the central element        ``embedding``
    pyramid 64:32:16:16:16, one last neuron ``pyramid``
    ======================================= ===============================

    Descriptors and embedding side by side enter the pyramid. As in the authors' code, every hidden layer
    but the first is normalised before its activation. That code has a second neuron with Swish before the
    last one; it is left out, so that features are the last 16.

    Nothing has to be done for continuity: the radial functions go to zero at the cutoff with two
    derivatives, see :mod:`asecalc_ml.potentials.neuralil.spherical_bessel`, and so do forces with one.

    Parameters
    ----------
    options : NeuralIL
    """

    def __init__(self, options: NeuralIL):
        super().__init__()
        self.cutoff = options.cutoff_A
        self.embedding = nn.Embedding(len(options.elements), options.embedding_dimensions)
        self.descriptors = PowerSpectrum(options)
        n_inputs = self.descriptors.n_features + options.embedding_dimensions
        self.pyramid = Pyramid([n_inputs, *options.hidden_channels])
        self.slots: Tensor
        self.register_buffer("slots", _slots(options.elements), persistent=False)

    def forward(self, inputs: PotentialInput) -> AtomOutput:
        slots = self.slots[inputs.atomic_numbers]
        embedded = self.embedding(slots)
        descriptors = self.descriptors(slots, inputs.edge_index, inputs.edge_vectors)
        return self.pyramid(torch.cat([descriptors, embedded], dim=1))

    @property
    def embeddings(self) -> list[nn.Module]:
        return [self.embedding]

    @property
    def interactions(self) -> list[nn.Module]:
        return [self.descriptors]

    @property
    def readout(self) -> nn.Module:
        return self.pyramid

    @property
    def last_linear(self) -> tuple[Tensor, Tensor]:
        return self.pyramid.last.weight, self.pyramid.last.bias


class Pyramid(nn.Module):
    """Dense layers with Swish, all but the first with layer normalisation, then one neuron.

    Parameters
    ----------
    widths : list of int
        Of the input, then of each hidden layer.
    """

    def __init__(self, widths: list[int]):
        super().__init__()
        first, *others = pairwise(widths)
        self.hidden = nn.Sequential(nn.Linear(*first), nn.SiLU())
        for n_in, n_out in others:
            self.hidden.extend([nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.SiLU()])
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, inputs: Tensor) -> AtomOutput:
        features = self.hidden(inputs)
        return AtomOutput(features=features, contributions=self.last(features))


def _slots(elements: list[str]) -> Tensor:
    """Place of each atomic number among the elements; for all others one too far, which no table has."""
    slots = torch.full((len(chemical_symbols),), len(elements))
    slots[[atomic_numbers[symbol] for symbol in elements]] = torch.arange(len(elements))
    return slots
