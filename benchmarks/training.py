"""Samples per second of a training, compared with the loops of the packages that the architectures come from.

python benchmarks/training.py [equivariant-transformer | painn] --data rmd17_ethanol_train_01.npz
    [--frames 200] [--batch 8] [--epochs 3] [--eager] [--energies]

Ours is the loop of `asecalc-ml train`; torchmd-net's is its LNNP under Lightning, schnetpack's its
AtomisticTask under Lightning, both as their documentation has them, eager, with AdamW. An epoch is all steps
on the same frames, without validation. Epochs of all of them are run in turns.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from asecalc_ml.potentials.datasets import dataset
from asecalc_ml.potentials.schnetpack.upstream import whole_package
from asecalc_ml.potentials.training import TrainOptions
from asecalc_ml.potentials.training.frames.batches import EpochBatches, LabelledGraph, StoredFrames
from asecalc_ml.potentials.training.frames.scaling import fit_scaling
from asecalc_ml.potentials.training.loop import TrainingLoop
from asecalc_ml.potentials.training.trainer import build_model, compile_step

MODELS = {
    "equivariant-transformer": {"hidden_channels": 64, "n_layers": 4, "n_rbf": 32, "cutoff_A": 5.0},
    "painn": {"n_atom_basis": 64, "n_interactions": 3, "n_rbf": 20, "cutoff_A": 5.0},
}

#: One epoch; returns seconds.
Epoch = Callable[[], float]


def ours(architecture: str, frames: list[Atoms], arguments: argparse.Namespace, compiled: bool) -> Epoch:
    """Return an epoch of our loop."""
    options = TrainOptions(
        name="benchmark",
        data={"format": "rmd17", "path": str(arguments.data)},
        model={"architecture": architecture, **MODELS[architecture]},
        loss={"forces_weight": 0.0 if arguments.energies else 1.0},
        batch_size=arguments.batch,
        compile=compiled,
    )
    model, labels = build_model(options, fit_scaling(frames, None)), options.loss.fitted
    graphs = [LabelledGraph.from_atoms(atoms, model.cutoff, labels) for atoms in frames]
    batches = EpochBatches(
        StoredFrames(graphs, model.cutoff, labels, model.triplet_cutoff), arguments.batch, 0
    )
    loop = TrainingLoop(model, options, batches, batches, quiet=True)
    if compiled:
        compile_step(loop)

    def epoch() -> float:
        start = time.perf_counter()
        loop.train_epoch(0)
        return time.perf_counter() - start

    return epoch


def under_lightning(lightning, module, loader, validation=None) -> Epoch:
    """Return an epoch of a Lightning module, from its start to the end of the last step."""
    for name in (lightning.__name__, f"{lightning.__name__}.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Clock(lightning.Callback):
        def on_train_epoch_start(self, *_):
            self.start = time.perf_counter()

        def on_train_batch_end(self, *_):
            self.seconds = time.perf_counter() - self.start

    def epoch() -> float:
        clock = Clock()
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock],
            inference_mode=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, loader, validation)
        return clock.seconds

    return epoch


def torchmdnet(frames: list[Atoms], arguments: argparse.Namespace) -> Epoch:
    """Return an epoch of torchmd-net's module with the arguments of its training script."""
    from asecalc_ml.potentials.torchmdnet import upstream

    upstream.layers()  # imports torchmd-net in silence
    import lightning.pytorch
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader
    from torchmdnet.module import LNNP
    from torchmdnet.scripts.train import get_argparse

    given = MODELS["equivariant-transformer"]
    settings = get_argparse().parse_args([])
    vars(settings).update(
        model="equivariant-transformer",
        embedding_dimension=given["hidden_channels"],
        num_layers=given["n_layers"],
        num_rbf=given["n_rbf"],
        cutoff_lower=0.0,
        cutoff_upper=given["cutoff_A"],
        max_num_neighbors=32,
        derivative=True,
        output_model="Scalar",
        y_weight=0.1,
        neg_dy_weight=1.0,
        lr=1e-3,
        lr_warmup_steps=0,
        precision=32,
    )
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    data = [
        Data(
            z=torch.tensor(atoms.numbers),
            pos=torch.tensor(atoms.positions, dtype=torch.float32),
            y=torch.tensor([[energy - energies.mean()]], dtype=torch.float32),
            neg_dy=torch.tensor(atoms.get_forces(), dtype=torch.float32),
        )
        for atoms, energy in zip(frames, energies, strict=True)
    ]
    module = LNNP(settings, mean=torch.tensor(0.0), std=torch.tensor(1.0))
    loader = DataLoader(data, arguments.batch, shuffle=True, drop_last=True)
    # its schedule needs the validation loss
    return under_lightning(
        lightning.pytorch, module, loader, DataLoader(data[: arguments.batch], arguments.batch)
    )


def schnetpack(frames: list[Atoms], arguments: argparse.Namespace) -> Epoch:
    """Return an epoch of schnetpack's task, its data in a database and neighbor lists made at each step."""
    spk = whole_package()
    import pytorch_lightning
    import schnetpack.transform as transforms
    from schnetpack.data import ASEAtomsData, AtomsLoader

    given = MODELS["painn"]
    path = str(Path(tempfile.mkdtemp()) / "frames.db")
    units = {"energy": "eV", "forces": "eV/Ang"}
    data = ASEAtomsData.create(path, distance_unit="Ang", property_unit_dict=units)
    mean = np.mean([atoms.get_potential_energy() for atoms in frames])
    properties = [
        {"energy": np.array([atoms.get_potential_energy() - mean]), "forces": atoms.get_forces()}
        for atoms in frames
    ]
    data.add_systems(properties, frames)
    data.transforms = [transforms.MatScipyNeighborList(given["cutoff_A"]), transforms.CastTo32()]
    representation = spk.representation.PaiNN(
        n_atom_basis=given["n_atom_basis"],
        n_interactions=given["n_interactions"],
        radial_basis=spk.nn.BesselRBF(given["n_rbf"], given["cutoff_A"]),
        cutoff_fn=spk.nn.CosineCutoff(given["cutoff_A"]),
    )
    model = spk.model.NeuralNetworkPotential(
        representation=representation,
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=[
            spk.atomistic.Atomwise(n_in=given["n_atom_basis"], output_key="energy"),
            spk.atomistic.Forces(),
        ],
    )
    outputs = [
        spk.task.ModelOutput(name, torch.nn.MSELoss(), weight, metrics={})
        for name, weight in (("energy", 0.1), ("forces", 1.0))
    ]
    task = spk.task.AtomisticTask(model, outputs, torch.optim.AdamW, {"lr": 1e-3})
    loader = AtomsLoader(data, arguments.batch, shuffle=True, drop_last=True)
    return under_lightning(pytorch_lightning, task, loader)


PEERS = {"equivariant-transformer": ("torchmd-net", torchmdnet), "painn": ("schnetpack", schnetpack)}


def main() -> None:
    """Print medians of samples per second, and their ratio to the peer's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architecture", nargs="?", default="equivariant-transformer", choices=MODELS)
    parser.add_argument("--data", type=Path, required=True, help="npz file of rMD17")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--eager", action="store_true", help="time our eager loop, too")
    parser.add_argument("--energies", action="store_true", help="fit energies alone; no peer is timed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning|torch)\b.*")
    frames = dataset({"format": "rmd17", "path": str(arguments.data)}).read()[: arguments.frames]
    loops = {"compiled": ours(arguments.architecture, frames, arguments, compiled=True)}
    if arguments.eager or arguments.energies:
        loops["eager"] = ours(arguments.architecture, frames, arguments, compiled=False)
    if not arguments.energies:
        name, peer = PEERS[arguments.architecture]
        loops[name] = peer(frames, arguments)
    for epoch in loops.values():
        epoch()  # warm
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(arguments.epochs):
        for name, epoch in loops.items():
            seconds[name].append(epoch())
    n_samples = len(frames) // arguments.batch * arguments.batch
    rates = {name: n_samples / statistics.median(times) for name, times in seconds.items()}
    for name, rate in rates.items():
        ratio = statistics.median(
            other / own for own, other in zip(seconds["compiled"], seconds[name], strict=True)
        )
        print(f"{name:<12} {rate:8.1f} samples a second, {ratio:5.2f} times the compiled epoch's time")


if __name__ == "__main__":
    main()
