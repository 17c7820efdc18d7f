"""Training loops of the packages that the architectures come from, as their documentation has them."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from asecalc_ml.config.options import Options
from asecalc_ml.potentials.schnetpack.options import SchNetPackOptions
from asecalc_ml.potentials.torchmdnet.options import TorchMDNetOptions
from measuring.peers import schnetpack_model, torchmdnet_arguments

#: Trains for an epoch; returns the seconds from its start to the end of its last step.
Epoch = Callable[[], float]

WEIGHTS = {"energy": 0.1, "forces": 1.0, "stress": 1.0}
UNITS = {"energy": "eV", "forces": "eV/Ang", "stress": "eV/Ang/Ang/Ang"}
LEARNING_RATE = 1e-3


def peer_epochs(
    options: Options, frames: list[Atoms], labels: Sequence[str], batch_size: int, device: str
) -> dict[str, Epoch]:
    """Epochs of the package that an architecture comes from, in float32, by its name.

    None for our own architectures, and where torchmd-net has no counterpart: it trains molecules on energies
    and forces.

    Parameters
    ----------
    options : Options
        Of the architecture.
    frames : list of Atoms
        With the labels.
    labels : sequence of str
        Among energy, forces and stress.
    """
    if isinstance(options, SchNetPackOptions):
        return {"schnetpack": schnetpack_epoch(options, frames, labels, batch_size, device)}
    of_molecules = set(labels) == {"energy", "forces"} and not any(atoms.pbc.any() for atoms in frames)
    if isinstance(options, TorchMDNetOptions) and of_molecules:
        return {"torchmd-net": torchmdnet_epoch(options, frames, batch_size, device)}
    return {}


def torchmdnet_epoch(options: TorchMDNetOptions, frames: list[Atoms], batch_size: int, device: str) -> Epoch:
    """Return an epoch of torchmd-net's module with the arguments of its training script."""
    from asecalc_ml.potentials.torchmdnet import upstream

    upstream.layers()  # imports torchmd-net in silence
    import lightning.pytorch as lightning
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader
    from torchmdnet.module import LNNP
    from torchmdnet.scripts.train import get_argparse

    settings = get_argparse().parse_args([])
    vars(settings).update(
        torchmdnet_arguments(options),
        y_weight=WEIGHTS["energy"],
        neg_dy_weight=WEIGHTS["forces"],
        lr=LEARNING_RATE,
        lr_warmup_steps=0,
    )
    data = [
        Data(
            z=torch.tensor(atoms.numbers),
            pos=torch.tensor(atoms.positions, dtype=torch.float32),
            y=torch.tensor([[energy]], dtype=torch.float32),
            neg_dy=torch.tensor(atoms.get_forces(), dtype=torch.float32),
        )
        for atoms, energy in zip(frames, _centred_energies(frames), strict=True)
    ]
    module = LNNP(settings, mean=torch.tensor(0.0), std=torch.tensor(1.0))
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=True)
    # its schedule needs the validation loss
    return lightning_epoch(lightning, module, device, loader, DataLoader(data[:batch_size], batch_size))


def schnetpack_epoch(
    options: SchNetPackOptions, frames: list[Atoms], labels: Sequence[str], batch_size: int, device: str
) -> Epoch:
    """Return an epoch of schnetpack's task, its data in a database and neighbor lists made at each step."""
    from asecalc_ml.potentials.schnetpack.upstream import whole_package

    schnetpack = whole_package()
    import pytorch_lightning as lightning
    from schnetpack import transform
    from schnetpack.data import ASEAtomsData, AtomsLoader

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    path = str(Path(folder) / "frames.db")
    units = {label: UNITS[label] for label in labels}
    data = ASEAtomsData.create(path, distance_unit="Ang", property_unit_dict=units)
    targets = [
        {label: targets[label] for label in labels}
        for targets in map(_targets, frames, _centred_energies(frames))
    ]
    data.add_systems(targets, frames)
    data.transforms = [transform.MatScipyNeighborList(options.cutoff_A), transform.CastTo32()]
    outputs = [
        schnetpack.task.ModelOutput(label, torch.nn.MSELoss(), WEIGHTS[label], metrics={}) for label in labels
    ]
    task = schnetpack.task.AtomisticTask(
        schnetpack_model(schnetpack, options, labels), outputs, torch.optim.AdamW, {"lr": LEARNING_RATE}
    )
    loader = AtomsLoader(data, batch_size, shuffle=True, drop_last=True)
    return lightning_epoch(lightning, task, device, loader)


def lightning_epoch(lightning, module, device: str, train: Iterable, validation=None) -> Epoch:
    """Return an epoch of a Lightning module; what Lightning does before and after it does not count."""
    for name in (lightning.__name__, f"{lightning.__name__}.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning|torch)\b.*")

    class Clock(lightning.Callback):
        def on_train_epoch_start(self, *_):
            self.start = time.perf_counter()

        def on_train_batch_end(self, *_):
            self.end = time.perf_counter()

        def on_train_epoch_end(self, *_):  # a GPU works on after the last step was begun
            if device != "cpu":
                torch.cuda.synchronize()
                self.end = time.perf_counter()

    def epoch() -> float:
        clock = Clock()
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu" if device == "cpu" else "gpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
            inference_mode=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, train, validation)
        return clock.end - clock.start

    return epoch


def _targets(atoms: Atoms, energy: float) -> dict[str, np.ndarray]:
    """Labels of a frame as schnetpack stores them, of shapes (1,), (n_atoms, 3) and (1, 3, 3)."""
    targets = atoms.calc.results | {"energy": np.array([energy])}
    if "stress" in targets:
        targets["stress"] = voigt_6_to_full_3x3_stress(targets["stress"])[None]
    return targets


def _centred_energies(frames: list[Atoms]) -> np.ndarray:
    """Energies less their mean, shape (n_frames,), eV."""
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    return energies - energies.mean()
