"""Training loops of the packages that the architectures come from, as their documentation has them."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from asecalc_ml.config.options import Options
from asecalc_ml.potentials.schnetpack.options import SchNetPackOptions
from asecalc_ml.potentials.torchmdnet.options import TorchMDNetOptions
from measuring.peers import schnetpack_model, torchmdnet_arguments

#: Trains for an epoch; returns the seconds from its start to the end of its last step.
Epoch = Callable[[], float]

ENERGY_WEIGHT, FORCES_WEIGHT = 0.1, 1.0
LEARNING_RATE = 1e-3


def peer_epochs(options: Options, frames: list[Atoms], batch_size: int, device: str) -> dict[str, Epoch]:
    """Epochs of the package that an architecture comes from, in float32, by its name; none for our own.

    Parameters
    ----------
    options : Options
        Of the architecture.
    frames : list of Atoms
        Molecules with energies and forces.
    """
    if isinstance(options, TorchMDNetOptions):
        return {"torchmd-net": torchmdnet_epoch(options, frames, batch_size, device)}
    if isinstance(options, SchNetPackOptions):
        return {"schnetpack": schnetpack_epoch(options, frames, batch_size, device)}
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
        y_weight=ENERGY_WEIGHT,
        neg_dy_weight=FORCES_WEIGHT,
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


def schnetpack_epoch(options: SchNetPackOptions, frames: list[Atoms], batch_size: int, device: str) -> Epoch:
    """Return an epoch of schnetpack's task, its data in a database and neighbor lists made at each step."""
    from asecalc_ml.potentials.schnetpack.upstream import whole_package

    schnetpack = whole_package()
    import pytorch_lightning as lightning
    from schnetpack import transform
    from schnetpack.data import ASEAtomsData, AtomsLoader

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    path = str(Path(folder) / "frames.db")
    units = {"energy": "eV", "forces": "eV/Ang"}
    data = ASEAtomsData.create(path, distance_unit="Ang", property_unit_dict=units)
    labels = [
        {"energy": np.array([energy]), "forces": atoms.get_forces()}
        for atoms, energy in zip(frames, _centred_energies(frames), strict=True)
    ]
    data.add_systems(labels, frames)
    data.transforms = [transform.MatScipyNeighborList(options.cutoff_A), transform.CastTo32()]
    outputs = [
        schnetpack.task.ModelOutput(name, torch.nn.MSELoss(), weight, metrics={})
        for name, weight in (("energy", ENERGY_WEIGHT), ("forces", FORCES_WEIGHT))
    ]
    task = schnetpack.task.AtomisticTask(
        schnetpack_model(schnetpack, options), outputs, torch.optim.AdamW, {"lr": LEARNING_RATE}
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


def _centred_energies(frames: list[Atoms]) -> np.ndarray:
    """Energies less their mean, shape (n_frames,), eV."""
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    return energies - energies.mean()
