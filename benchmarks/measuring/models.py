"""Models to measure: registered ones, and published sizes of architectures with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from ase import Atoms

from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.potentials.schnetpack import PaiNN, SchNet
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer, TensorNet
from asecalc_ml.store.model_file import save_model
from asecalc_ml.store.registry import Registry
from asecalc_ml.testing import untrained_card, untrained_model

_SMALL = {"hidden_channels": 16, "n_layers": 1, "n_rbf": 8, "max_atomic_number": 20}

#: Sizes in common use.
ARCHITECTURES = {
    "ET 128 × 6": EquivariantTransformer(hidden_channels=128, n_layers=6, max_atomic_number=20),
    "ET 64 × 4": EquivariantTransformer(hidden_channels=64, n_layers=4, max_atomic_number=20),
    "TensorNet 128 × 2": TensorNet(hidden_channels=128, n_layers=2, max_atomic_number=20),
    "SchNet 128 × 6": SchNet(n_atom_basis=128, n_interactions=6, max_atomic_number=20),
    "PaiNN 128 × 3": PaiNN(n_atom_basis=128, n_interactions=3, max_atomic_number=20),
}

#: For ``--quick``.
SMALL = {
    "ET 16 × 1": EquivariantTransformer(**_SMALL, n_heads=2),
    "TensorNet 16 × 1": TensorNet(**_SMALL),
    "SchNet 16 × 1": SchNet(n_atom_basis=16, n_interactions=1, n_rbf=8, max_atomic_number=20),
}


def model_file(name: str, atoms: Atoms, folder: Path, seed: int = 0) -> Path:
    """The file of a registered model, or of an architecture above with random weights.

    Random weights may make huge forces, and the molecule would fly apart: the scale of the model brings
    them to about 1 eV/Å.

    Parameters
    ----------
    name : str
        Key of :data:`ARCHITECTURES` or :data:`SMALL`, or name of a registered model.
    atoms : Atoms
        Its elements are those that the model takes.
    folder : Path
        Where the file of random weights is written.
    """
    options = ARCHITECTURES.get(name) or SMALL.get(name)
    if options is None:
        return Registry().find(name).path
    model = untrained_model(options, seed, dtype=torch.float32)
    model.shift.zero_()
    model.scale.fill_(1.0)
    forces = Evaluator(model)(AtomGraph.from_atoms(atoms, model.cutoff)).forces
    model.scale.fill_(10.0 ** -forces.abs().max().log10().round().item())  # the same on every machine
    path = folder / f"benchmark-{seed}.safetensors"
    save_model(path, model, untrained_card("benchmark", options, model, atoms))
    return path
