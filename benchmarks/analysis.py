"""How long analyses of a long run take: 1-propanol, every frame with positions, momenta, energy and forces.

python benchmarks/analysis.py [--frames 100000] [--directory FOLDER] [--formats traj extxyz h5md]

With a directory the frames are kept, and used again the next time.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from measuring.record import Table, parser, publish

from asecalc_ml.analysis.distributions.angles import Angles
from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.distributions.conformers import Conformers
from asecalc_ml.analysis.distributions.dihedrals import Dihedrals
from asecalc_ml.analysis.functions.vibrational_density import VibrationalDensity
from asecalc_ml.analysis.pipeline import measure
from asecalc_ml.runs import START, TRAJECTORY_SUFFIXES, RunReader, RunWriter, trajectory_of
from asecalc_ml.structure.loading import load_structure

INTERVAL_FS = 1.0
METHOD = (
    "Wall seconds, and in parentheses processor seconds, which other work on the machine does not "
    "stretch. {n:,} frames of 1-propanol with positions, momenta, energy and forces, written as a "
    "run writes them; they are made, not computed: each coordinate swings by 0.05 Å. Sizes: "
    "{sizes}."
)


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
    results, problems = measure(run, {str(k): analysis for k, analysis in enumerate(analyses)})
    assert not problems, problems
    for result in results:
        result.model_dump_json()


def times_of(directory: Path) -> dict[str, str]:
    """What reading and analyses of one run take."""
    run = RunReader(directory)
    works = {
        "reading positions": lambda: [len(frames.positions) for frames in run.frame_chunks()],
        "bonds and angles, without hydrogen": partial(analyse, run, BondLengths(), Angles()),
        "bonds and angles, all": partial(
            analyse, run, BondLengths(patterns=["*-*"]), Angles(patterns=["*-*-*"])
        ),
        "dihedrals and conformers": partial(analyse, run, Dihedrals(), Conformers()),
        "vibrational density of states": partial(analyse, run, VibrationalDensity()),
    }
    return {name: timed(work) for name, work in works.items()}


def timed(work) -> str:
    """Wall and processor seconds of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return f"{wall:.1f} ({processor:.1f})"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--frames", type=int, default=100_000)
    options.add_argument("--directory", type=Path)
    options.add_argument("--formats", nargs="+", default=list(TRAJECTORY_SUFFIXES))
    arguments = options.parse_args()
    if arguments.quick:
        arguments.frames = 7000  # the fewest that the vibrational density of states takes
    times, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.formats:
            directory = (arguments.directory or Path(folder)) / name
            written = {}
            if not (directory / START).is_file():
                written["writing"] = timed(partial(write_run, directory, arguments.frames, name))
            times[name] = written | times_of(directory)
            sizes[name] = f"{name} {trajectory_of(directory).stat().st_size / 1e6:.1f} MB"
    tasks = list(dict.fromkeys(task for of_format in times.values() for task in of_format))
    rows = [[task, *(of_format.get(task, "") for of_format in times.values())] for task in tasks]
    method = METHOD.format(n=arguments.frames, sizes=", ".join(sizes.values()))
    table = Table(title="A long run of a molecule", method=method, columns=["task (s)", *times], rows=rows)
    publish(arguments, "Analyses", [table])


if __name__ == "__main__":
    main()
