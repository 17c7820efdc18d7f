"""Does the relevance of a prediction lie on nitrogen and the hydrogen atoms attached to it?

python docs/experiments/qm9_relevance.py MODEL ... --molecules 1000 --untrained 10 --output qm9_relevance.json

MODEL is the name of a model of one property of QM9, such as qm9-physnet-homo. Molecules are random ones with
nitrogen that trained none of the models; all of QM9 comes with `pip install --no-deps qm9pack`.

For each method and molecule the mean relevance of a group of atoms is compared with that of others:

| contrast | group | others |
|---|---|---|
| N, H(N) / C, O | nitrogen atoms and hydrogen atoms attached to them | carbon and oxygen atoms |
| N / C, O | nitrogen atoms | carbon and oxygen atoms |
| H(N) / H | hydrogen atoms attached to nitrogen | all other hydrogen atoms |

The size of relevance is compared (one-sided: larger on the group), and its sign (two-sided). The p value is
that of exchanging atom labels within each molecule. The superiority is the probability that an atom of the
group has a larger relevance than another of the same molecule: 0.5 without a difference.

A network with random weights shows what the architecture does without training. A verdict on "relevance is
larger on N, H(N) than on C, O, because of the training" is

- confirmed: p below 0.01 after Holm's correction for the methods, superiority at least 0.56 (a small effect),
  and above what a further untrained network would have with 95 % probability (Student's t);
- not confirmed: superiority below 0.56 with 95 % confidence, or not above the mean of untrained networks;
- undecided: otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from qm9_common import Record, qm9, unseen
from scipy.stats import t as student
from scipy.stats import ttest_ind

from asecalc_ml.analysis import relevance
from asecalc_ml.errors import AsecalcError, StructureError
from asecalc_ml.statistics.permutation import BlockedDifference, blocked_difference
from asecalc_ml.store.model_file import untrained_model
from asecalc_ml.store.registry import Registry
from asecalc_ml.structure.topology.functional_groups import NitrogenAtom, nitrogen_atoms

METHODS = ["saliency", "cam", "grad-cam", "lrp", "occlusion"]
MAIN = "N, H(N) / C, O"
SMALL_EFFECT = 0.56  # Vargha and Delaney's A
SIGNIFICANCE = 0.01
FEWEST_MOLECULES = 10  # of a functional group


@dataclass
class Molecule:
    """A molecule with its nitrogen atoms, and the atoms that contrasts compare."""

    atoms: Atoms
    nitrogens: list[NitrogenAtom]

    def mask(self, numbers: Iterable[int]) -> np.ndarray:
        """True for these atoms."""
        chosen = np.zeros(len(self.atoms), dtype=bool)
        chosen[list(numbers)] = True
        return chosen

    @property
    def attached(self) -> np.ndarray:
        """Hydrogen atoms of nitrogen."""
        return self.mask(hydrogen for one in self.nitrogens for hydrogen in one.hydrogens)

    def contrasts(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Group and others, by name."""
        numbers, attached = self.atoms.numbers, self.attached
        heavy = np.isin(numbers, (6, 8))
        groups = {
            MAIN: ((numbers == 7) | attached, heavy),
            "N / C, O": (numbers == 7, heavy),
            "H(N) / H": (attached, (numbers == 1) & ~attached),
        }
        for name in dict.fromkeys(one.group for one in self.nitrogens):
            own = [one for one in self.nitrogens if one.group == name]
            atoms = [atom for one in own for atom in (one.atom, *one.hydrogens)]
            groups[name] = (self.mask(atoms), heavy)
        return groups


def molecules(models: list[str], n_molecules: int, seed: int) -> tuple[list[Molecule], int]:
    """Molecules with nitrogen, and the number of those whose bonds are not those of their SMILES."""
    with_nitrogen = unseen(qm9(), models, n_molecules, seed, keep=lambda atoms: 7 in atoms.numbers)
    known, n_unknown = [], 0
    for atoms in with_nitrogen:
        try:
            known.append(Molecule(atoms, nitrogen_atoms(atoms, atoms.info["smiles"])))
        except StructureError:
            n_unknown += 1
    return known, n_unknown


def maps(model: object, chosen: list[Molecule], methods: list[str]) -> dict[str, list[np.ndarray]]:
    """Relevance of the atoms of each molecule, by method; Grad-CAM in four forms."""
    options = {"method": methods, "pairs": "none", "compared_frames": 0, "quiet": True}
    result = relevance.explain(model, [molecule.atoms for molecule in chosen], **options)
    found = {}
    for method in result.methods:
        found[method.method] = [np.array(frame.atoms) for frame in method.frames]
        if method.method == "grad-cam":
            blocks = [np.array(list(frame.blocks.values())) for frame in method.frames]
            found["grad-cam, rectified"] = [np.maximum(maps, 0).mean(axis=0) for maps in blocks]
            found["grad-cam, last block"] = [maps[-1] for maps in blocks]
            found["grad-cam, last block, rectified"] = [np.maximum(maps[-1], 0) for maps in blocks]
    return found


def compare(
    values: list[np.ndarray], chosen: list[Molecule], contrast: str, sizes: bool, n_permutations: int
) -> BlockedDifference | None:
    """A contrast over all molecules that have it; None if there are too few."""
    blocks, members = [], []
    for relevances, molecule in zip(values, chosen, strict=True):
        group, others = molecule.contrasts().get(contrast, (np.zeros(0, bool), np.zeros(0, bool)))
        if group.any() and others.any():
            either = group | others
            blocks.append(np.abs(relevances[either]) if sizes else relevances[either])
            members.append(group[either])
    if len(blocks) < FEWEST_MOLECULES:
        return None
    return blocked_difference(
        blocks, members, n_permutations, alternative="greater" if sizes else "two-sided"
    )


def verdict(found: BlockedDifference, p_value: float, untrained: list[float]) -> tuple[str, float]:
    """The verdict, and the largest superiority that a further untrained network would have."""
    n_untrained = len(untrained)
    if n_untrained < 2:
        return "undecided", float("nan")
    spread = float(np.std(untrained, ddof=1)) * np.sqrt(1 + 1 / n_untrained)
    highest = float(np.mean(untrained)) + student.ppf(0.975, n_untrained - 1) * spread
    if p_value < SIGNIFICANCE and found.superiority >= max(SMALL_EFFECT, highest):
        return "confirmed", highest
    if found.interval[1] < SMALL_EFFECT or found.superiority <= np.mean(untrained):
        return "not confirmed", highest
    return "undecided", highest


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """p values after Holm's step-down correction."""
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.get)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected


def compare_sizes(
    method: str,
    values: list[np.ndarray],
    contrasts: Sequence[str],
    chosen: list[Molecule],
    random: list[dict[str, list[np.ndarray]]],
    n_permutations: int,
) -> list[dict[str, object]]:
    """Size of relevance in some contrasts, of the trained network and of untrained ones; a row for each."""
    rows = []
    for contrast in contrasts:
        trained = compare(values, chosen, contrast, True, n_permutations)
        if trained is None:
            continue
        untrained = [compare(maps[method], chosen, contrast, True, 0).superiority for maps in random]
        rows.append(
            {
                "method": method,
                "contrast": contrast,
                "superiority of the size": trained.superiority,
                "± 95 %": 1.96 * trained.superiority_error,
                "p": trained.p_value,
                "untrained, mean": float(np.mean(untrained)) if untrained else float("nan"),
                "molecules": trained.n_blocks,
            }
        )
    return rows


def judge(
    model: str, chosen: list[Molecule], arguments: argparse.Namespace, record: Record
) -> dict[str, tuple[float, list[float]]]:
    """All methods and contrasts of one trained network and of untrained ones like it.

    Returns
    -------
    dict
        Superiority of the main contrast, of the trained network and of the untrained ones, by method.
    """
    n_permutations = arguments.permutations
    path = Registry().find(model).path
    trained = maps(model, chosen, arguments.methods)
    random = [
        maps(untrained_model(path, seed), chosen, arguments.methods) for seed in range(arguments.untrained)
    ]
    sizes = {name: compare(values, chosen, MAIN, True, n_permutations) for name, values in trained.items()}
    corrected = holm({name: found.p_value for name, found in sizes.items()})
    rows, others, by_group = [], [], []
    superiorities = {}
    groups = sorted({one.group for molecule in chosen for one in molecule.nitrogens})
    for name, values in trained.items():
        of_untrained = [compare(one[name], chosen, MAIN, True, 0).superiority for one in random]
        found, signed = sizes[name], compare(values, chosen, MAIN, False, n_permutations)
        decision, highest = verdict(found, corrected[name], of_untrained)
        superiorities[name] = (found.superiority, of_untrained)
        rows.append(
            {
                "method": name,
                "superiority of the size": found.superiority,
                "± 95 %": 1.96 * found.superiority_error,
                "difference of the size / mean": found.relative_difference,
                "z": found.z,
                "p (Holm)": corrected[name],
                "untrained, mean": float(np.mean(of_untrained)) if random else float("nan"),
                "untrained, upper limit": highest,
                "difference with sign / mean": signed.relative_difference,
                "p with sign": signed.p_value,
                "molecules": found.n_blocks,
                "verdict": decision,
            }
        )
        others += compare_sizes(name, values, ("N / C, O", "H(N) / H"), chosen, random, n_permutations)
        by_group += compare_sizes(name, values, groups, chosen, random, n_permutations)
    record.add(f"{model}: relevance on {MAIN}", rows)
    record.add(f"{model}: N and H apart", others)
    record.add(f"{model}: by functional group, its N and H against C, O", by_group)
    return superiorities


def over_networks(superiorities: dict[str, dict[str, tuple[float, list[float]]]], record: Record) -> None:
    """Trained against untrained networks of one architecture, by Welch's interval of the difference."""
    by_kind: dict[tuple[str, str], list[tuple[float, list[float]]]] = {}
    for model, methods in superiorities.items():
        for method, values in methods.items():
            by_kind.setdefault((Registry().find(model).card.architecture, method), []).append(values)
    rows = []
    for (architecture, method), values in by_kind.items():
        trained, untrained = [one for one, _ in values], values[0][1]
        if min(len(trained), len(untrained)) < 2:
            continue
        interval = ttest_ind(trained, untrained, equal_var=False).confidence_interval(0.95)
        rows.append(
            {
                "architecture": architecture,
                "method": method,
                "trained": len(trained),
                "superiority, trained": float(np.mean(trained)),
                "superiority, untrained": float(np.mean(untrained)),
                "difference, 95 % from": float(interval.low),
                "to": float(interval.high),
            }
        )
    if rows:
        record.add(f"Trained less untrained networks: size of relevance on {MAIN}", rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--molecules", type=int, default=1000)
    parser.add_argument("--untrained", type=int, default=10, help="networks with random weights")
    parser.add_argument("--permutations", type=int, default=1999)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of molecules")
    parser.add_argument("--output", type=Path, default=Path("qm9_relevance.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen, n_unknown = molecules(arguments.models, arguments.molecules, arguments.seed)
    settings = {**vars(arguments), "output": str(arguments.output), "left out, other bonds": n_unknown}
    record = Record("Relevance on nitrogen", settings)
    superiorities = {}
    for model in arguments.models:
        superiorities[model] = judge(model, chosen, arguments, record)
        record.write(arguments.output)
    over_networks(superiorities, record)
    record.write(arguments.output)


if __name__ == "__main__":
    try:
        main()
    except AsecalcError as error:
        raise SystemExit(str(error)) from None
