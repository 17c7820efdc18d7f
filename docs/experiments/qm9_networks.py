"""Errors on QM9 of networks that were trained for equal times, as their cards state them.

python docs/experiments/qm9_networks.py [--prefix qm9-] [--targets homo zpve] [--output qm9_networks.json]

Models are those of the registry that are called PREFIX + network + "-" + target, as examples/qm9 names them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qm9_common import Record

from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.registry import Registry


def cards_of(prefix: str, targets: list[str]) -> dict[str, dict[str, ModelCard]]:
    """Cards by network and target."""
    cards: dict[str, dict[str, ModelCard]] = {}
    for entry in Registry().list():
        for target in targets:
            network = entry.name.removeprefix(prefix)
            if entry.name.startswith(prefix) and network.endswith(f"-{target}"):
                cards.setdefault(network.removesuffix(f"-{target}"), {})[target] = entry.card
    return cards


def row(network: str, cards: dict[str, ModelCard], targets: list[str]) -> dict[str, object]:
    """Size of a network, and for each target its error, core minutes and epochs."""
    first = next(iter(cards.values()))
    cells: dict[str, object] = {"network": network, "parameters": first.n_parameters}
    for target in targets:
        card = cards.get(target)
        errors = card.metrics.quantities[target] if card is not None and card.metrics is not None else None
        unit = "meV" if errors is None or errors.unit == "eV" else errors.unit
        factor = 1000 if unit == "meV" else 1
        cells[f"{target}, MAE ({unit})"] = None if errors is None else factor * errors.mae
        cells[f"{target}, epochs"] = None if card is None else card.options["max_epochs"]
        hours = None if card is None else card.training_cpu_h
        cells[f"{target}, core minutes"] = None if hours is None else 60 * hours
    return cells


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--prefix", default="qm9-")
    options.add_argument("--targets", nargs="+", default=["homo", "zpve"])
    options.add_argument("--output", type=Path, default=Path("qm9_networks.json"))
    arguments = options.parse_args()
    record = Record("Networks on QM9", {"targets": arguments.targets})
    cards = cards_of(arguments.prefix, arguments.targets)
    record.add("networks", [row(network, cards[network], arguments.targets) for network in sorted(cards)])
    record.write(arguments.output)


if __name__ == "__main__":
    main()
