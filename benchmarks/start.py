"""How long starting takes: importing the package, `--help`, and a new process's first forces.

python benchmarks/start.py [--turns 5] [--model torchmdnet-ethanol] [--structure ethanol]

Each is a new Python process. The first forces are those of a model that was compiled before, and of
torchmd-net's calculator with the same weights.
"""

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from measuring.peers import options_of, write_torchmdnet_checkpoint
from measuring.record import Cell, Spread, Table, parser, publish
from measuring.turns import alternate

from asecalc_ml.store.model_file import read_model
from asecalc_ml.store.registry import Registry

FIRST_FORCES = """
{import_line}
from asecalc_ml.structure.loading import load_structure
atoms = load_structure({structure!r})
atoms.calc = {calculator}
atoms.get_forces()
"""
#: Ends a process at once: the end of the interpreter, up to 0.5 s with torch, is no part of a start.
END = "; import os; os._exit(0)"

METHOD = (
    "Wall time of new Python processes that take turns, each after one that is not counted, until their work "
    "is done: Python's own end is left out, but for the commands. "
    "Differences are taken within a turn. First forces: process, calculator and forces of a structure."
)
HELP = ("asecalc-ml --help", "asecalc-md --help")

#: What a process is compared with, where that is not a process that imports torch alone.
BASES = {
    "python": "",
    "import torch": "",
    "import asecalc_ml": "python",
    **dict.fromkeys(HELP, "python"),
}
COLUMNS = ["process", "wall time (s)", "beyond", "difference (s)"]


def processes(arguments: argparse.Namespace, checkpoint: Path) -> dict[str, list[str]]:
    """Commands by name."""
    compile = "never" if arguments.quick else "always"
    settings = f"{arguments.model!r}, compile={compile!r}, device={arguments.device!r}"
    first_forces = {
        "first forces, MLCalculator": (
            "from asecalc_ml import MLCalculator",
            f"MLCalculator({settings})",
        ),
        "first forces, torchmd-net": (
            "from torchmdnet.calculators import TMDNETCalculator",
            f"TMDNETCalculator({str(checkpoint)!r}, device={arguments.device!r})",
        ),
    }
    code = {
        "python": "pass",
        "import torch": "import torch",
        "import asecalc_ml": "import asecalc_ml",
        "import of MLCalculator": "from asecalc_ml import MLCalculator",
        "import of torchmd-net's calculator": "from torchmdnet.calculators import TMDNETCalculator",
    }
    for name, (import_line, calculator) in first_forces.items():
        code[name] = FIRST_FORCES.format(
            import_line=import_line, calculator=calculator, structure=arguments.structure
        )
    commands = {name: [sys.executable, "-c", text.rstrip() + END] for name, text in code.items()}
    scripts = Path(sys.executable).parent
    return commands | {command: [str(scripts / command.split()[0]), "--help"] for command in HELP}


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def rows(seconds: dict[str, np.ndarray]) -> list[list[Cell]]:
    """Times of all processes, and differences to what a process cannot do without."""
    table = []
    for name, times in seconds.items():
        base = BASES.get(name, "import torch")
        difference = Spread.of(times - seconds[base]) if base else ""
        table.append([name, Spread.of(times), base, difference])
    return table


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("--model", default="torchmdnet-ethanol", help="of an architecture of torchmd-net")
    options.add_argument("--structure", default="ethanol")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "upstream.ckpt"
        model, card = read_model(Registry().find(arguments.model).path)
        write_torchmdnet_checkpoint(checkpoint, options_of(card), model.potential, 1.0)
        commands = processes(arguments, checkpoint)
        for command in commands.values():
            run(command)
        works = {name: partial(run, command) for name, command in commands.items()}
        seconds = alternate(works, 1 if arguments.quick else arguments.turns)
    publish(
        arguments, "Start", [Table(title="New processes", method=METHOD, columns=COLUMNS, rows=rows(seconds))]
    )


if __name__ == "__main__":
    main()
