"""Errors on QM9 as cards state them: of networks, of training sets of several sizes, of twelve properties.

python docs/experiments/qm9_networks.py [--prefix qm9-] [--targets homo zpve] [--output qm9_networks.json]

Models are those of the registry that are called PREFIX + network + "-" + target, as examples/qm9 names them,
and, with fewer training molecules, PREFIX + network + "-" + target + "-" + size. Models of several properties
are listed next to published rows, with the measures of arXiv:2003.03123 over all of them.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from qm9_common import Record

from asecalc_ml.potentials.training.targets.evaluate import standardized_errors
from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.registry import Registry

PROPERTIES = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv")

#: Mean absolute errors in the units of PROPERTIES (eV for energies), std. MAE in % and logMAE; trained on
#: 110,000 molecules. SchNet, PhysNet and DimeNet: arXiv:2003.03123, table 1; DimeNet++: arXiv:2011.14115,
#: table 2; PaiNN: arXiv:2102.03150, table II.
PUBLISHED = {
    "SchNet": (
        0.033, 0.235, 0.041, 0.034, 0.063, 0.073, 0.0017, 0.014, 0.019, 0.014, 0.014, 0.033,
        1.76, -5.17,
    ),
    "PhysNet": (
        0.0529, 0.0615, 0.0329, 0.0247, 0.0425, 0.765, 0.00139, 0.00815, 0.00834, 0.00842, 0.00940, 0.0280,
        1.37, -5.35,
    ),
    "DimeNet": (
        0.0286, 0.0469, 0.0278, 0.0197, 0.0348, 0.331, 0.00129, 0.00802, 0.00789, 0.00811, 0.00898, 0.0249,
        1.05, -5.57,
    ),
    "DimeNet++": (
        0.0297, 0.0435, 0.0246, 0.0195, 0.0326, 0.331, 0.00121, 0.00632, 0.00628, 0.00653, 0.00756, 0.0230,
        0.98, -5.67,
    ),
    "PaiNN": (
        0.012, 0.045, 0.0276, 0.0204, 0.0457, 0.066, 0.00128, 0.00585, 0.00583, 0.00598, 0.00735, 0.024,
        1.01, -5.85,
    ),
}  # fmt: skip


def cards_of(prefix: str, targets: list[str]) -> dict[tuple[str, str], list[ModelCard]]:
    """Cards by network and target, those of small training sets first."""
    name, cards = re.compile(rf"{re.escape(prefix)}(.+)-({'|'.join(targets)})(?:-(\d+))?"), {}
    for entry in Registry().list():
        if match := name.fullmatch(entry.name):
            cards.setdefault((match[1], match[2]), []).append(entry.card)
    return {key: sorted(cards[key], key=lambda card: card.dataset.n_train) for key in sorted(cards)}


def cells(card: ModelCard, target: str) -> dict[str, object]:
    """Error of a target, in meV if it is an energy, with what the training took."""
    errors = card.metrics.quantities[target]
    in_meV = errors.unit == "eV"
    return {
        "MAE": (1000 if in_meV else 1) * errors.mae,
        "RMSE": (1000 if in_meV else 1) * errors.rmse,
        "unit": "meV" if in_meV else errors.unit,
        "epochs": card.options["max_epochs"],
        "core minutes": 60 * card.training_cpu_h if card.training_cpu_h is not None else None,
    }


def networks(cards: dict[tuple[str, str], list[ModelCard]], targets: list[str]) -> list[dict[str, object]]:
    """Errors of the largest training set of each network, by target."""
    return [
        {
            "target": target,
            "network": network,
            "parameters": of_network[-1].n_parameters,
            "training molecules": of_network[-1].dataset.n_train,
            **cells(of_network[-1], target),
        }
        for wanted in targets
        for (network, target), of_network in cards.items()
        if target == wanted
    ]


def learning_curves(cards: dict[tuple[str, str], list[ModelCard]]) -> list[dict[str, object]]:
    """Errors of all sizes of the networks that have several."""
    return [
        {
            "target": target,
            "network": network,
            "training molecules": card.dataset.n_train,
            **cells(card, target),
        }
        for (network, target), of_network in cards.items()
        if len(of_network) > 1
        for card in of_network
    ]


def several_properties(prefix: str) -> list[dict[str, object]]:
    """Published errors of the twelve properties, and those of registered models that predict them all."""
    rows = [{"network": f"{name}, published", **_row(110_000, errors)} for name, errors in PUBLISHED.items()]
    for entry in Registry().list():
        quantities = entry.card.metrics.quantities if entry.card.metrics is not None else {}
        if entry.name.startswith(prefix) and set(PROPERTIES) <= set(quantities):
            std_mae, log_mae = standardized_errors({name: quantities[name] for name in PROPERTIES})
            errors = [*(quantities[name].mae for name in PROPERTIES), 100 * std_mae, log_mae]
            rows.append({"network": entry.name, **_row(entry.card.dataset.n_train, errors)})
    return rows


def _row(n_train: int, errors: tuple[float, ...] | list[float]) -> dict[str, object]:
    columns = (*PROPERTIES, "std. MAE (%)", "logMAE")
    return {"training molecules": n_train, **dict(zip(columns, map(float, np.array(errors)), strict=True))}


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
    record.add("Networks", networks(cards, arguments.targets))
    record.add("Learning curves", learning_curves(cards))
    record.add("Twelve properties", several_properties(arguments.prefix))
    record.write(arguments.output)


if __name__ == "__main__":
    main()
