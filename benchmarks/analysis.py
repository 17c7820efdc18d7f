"""How long analyses of a long run take: 1-propanol, every frame with positions, momenta, energy and forces.

python benchmarks/analysis.py [--frames 100000] [--directory FOLDER] [--formats traj extxyz h5md]

Wall time, and processor time in parentheses, which other work on the machine does not stretch.
The frames are made, not computed: each coordinate swings by 0.05 Å. They are written as a run writes them.
With a directory they are kept, and used again the next time.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from asecalc_ml.analysis.distributions.angles import Angles
from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.distributions.conformers import Conformers
from asecalc_ml.analysis.distributions.dihedrals import Dihedrals
from asecalc_ml.analysis.functions.vibrational_density import VibrationalDensity
from asecalc_ml.analysis.pipeline import measure
from asecalc_ml.runs import START, TRAJECTORY_SUFFIXES, RunReader, RunWriter, trajectory_of
from asecalc_ml.structure.loading import load_structure

INTERVAL_FS = 1.0


def write_run(directory: Path, n_frames: int, trajectory_format: str) -> None:
    atoms = load_structure("1-propanol")
    start, rng = atoms.positions.copy(), np.random.default_rng(0)
    periods, phases = rng.uniform(10, 100, start.shape), rng.uniform(0, 2 * np.pi, start.shape)
    writer = RunWriter.create(directory, trajectory_format=trajectory_format)
    writer.write_structure(START, atoms)
    writer.write_json("provenance.json", {"frame_interval_fs": INTERVAL_FS})
    writer.write("protocol.yaml", "protocol: nve\n")
    for k in range(n_frames):
        atoms.positions = start + 0.05 * np.sin(2 * np.pi * k / periods + phases)
        atoms.set_velocities(0.05 * np.cos(2 * np.pi * k / periods + phases))
        writer.frame(atoms, -1.0, start, k, k * INTERVAL_FS)
    writer.close()


def analyse(run: RunReader, *analyses) -> None:
    results, problems = measure(run, {str(k): one for k, one in enumerate(analyses)})
    assert not problems, problems
    for result in results:
        result.model_dump_json()


def report(directory: Path) -> None:
    run = RunReader(directory)
    path = trajectory_of(directory)
    size = path.stat().st_size / 1e6
    print(f"{path.name}: {run.n_frames:,} frames of {len(run.atoms)} atoms, {size:.0f} MB")
    timed("reading positions", lambda: [len(frames.positions) for frames in run.frame_chunks()])
    for name, analyses in (
        ("bonds and angles, without hydrogen", (BondLengths(), Angles())),
        ("bonds and angles, all", (BondLengths(patterns=["*-*"]), Angles(patterns=["*-*-*"]))),
        ("dihedrals and conformers", (Dihedrals(), Conformers())),
        ("vibrational density of states", (VibrationalDensity(),)),
    ):
        timed(name, partial(analyse, run, *analyses))


def timed(name: str, work) -> None:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"{name:<45} {wall:5.1f} s ({processor:.1f} s)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--formats", nargs="+", default=list(TRAJECTORY_SUFFIXES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.formats:
            directory = (options.directory or Path(folder)) / name
            if not (directory / START).is_file():
                timed(f"writing {name}", partial(write_run, directory, options.frames, name))
            report(directory)


if __name__ == "__main__":
    main()
