"""The frames of a training, the part each belongs to, and their labels less the analytic terms."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from asecalc_ml.calculators.corrections import correction_calculators
from asecalc_ml.calculators.protocol import results_of_part
from asecalc_ml.errors import TrainingError
from asecalc_ml.potentials.datasets import DatasetOptions, dataset, dataset_hash
from asecalc_ml.potentials.datasets.label_checks import LabelReport, examine
from asecalc_ml.potentials.datasets.labels import incomplete, label_counts, with_label
from asecalc_ml.potentials.datasets.properties import check_properties, frames_of
from asecalc_ml.potentials.training.frames.copies import refuse_copies
from asecalc_ml.potentials.training.frames.lineage import PARTS, Lineage
from asecalc_ml.potentials.training.frames.split import NO_LINEAGE, Split
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.store.seen_frames import SeenFrames
from asecalc_ml.targets.target import ENERGY
from asecalc_ml.targets.zeros import check_zeros

#: Labels that analytic terms contribute to.
OF_TERMS = ("energy", "forces", "stress")


@dataclass(frozen=True)
class TrainingData:
    """Frames of each part, the reader they came from, and their numbers there.

    ``places`` has file and number of each frame of a part, as messages name them; ``lineage`` the models that
    the training starts from, and ``n_left_out`` counts frames of `test_data` that one of these has seen.
    ``zeros`` has what the fitted values are relative to, by quantity, as far as the data state it.
    ``left_out`` has the reason for each frame, by its place, that the split has and the parts lack.
    """

    train: list[Atoms]
    validation: list[Atoms]
    test: list[Atoms]
    source: DatasetOptions
    split: Split
    places: dict[str, list[str]]
    lineage: Lineage
    n_left_out: int
    zeros: Mapping[str, str]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def check_labels(self) -> LabelReport:
        """Summary of the labels of all parts, and where they contradict themselves."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return examine(parts, self.places, self.train)

    def refuse_copies(self, options: TrainOptions) -> None:
        """Refuse copies of training frames among those of a given split, and of given test data.

        Raises
        ------
        TrainingError
        """
        located = {
            part: dict(zip(self.places[part], getattr(self, part), strict=True))
            for part in ("train", "validation")
        }
        tested, n_of_split = list(zip(self.places["test"], self.test, strict=True)), len(self.split.test)
        if options.split.file is not None:
            held_out = located["validation"] | dict(tested[:n_of_split])
            refuse_copies(
                located["train"],
                held_out,
                "split.file",
                "Move them to train or leave them out; a split that is drawn keeps copies in one part",
            )
        if options.test_data is not None:
            refuse_copies(
                located["train"],
                dict(tested[n_of_split:]),
                "test_data",
                "Leave them out of `test_data`; or let split.n_test frames of `data` be drawn in its place",
            )

    @cached_property
    def seen(self) -> SeenFrames:
        """Frames that the weights will rest on, those of the ancestors included."""
        return self.lineage.and_own(self.train, self.validation)

    def without(self, left_out: Mapping[str, str]) -> TrainingData:
        """Parts without some frames; the split stays as it was drawn.

        Parameters
        ----------
        left_out : mapping of str to str
            Reason for each frame by its place.
        """
        kept = {part: [place not in left_out for place in places] for part, places in self.places.items()}
        frames = {part: list(compress(getattr(self, part), kept[part])) for part in PARTS}
        places = {part: list(compress(self.places[part], kept[part])) for part in PARTS}
        return dataclasses.replace(self, **frames, places=places, left_out={**self.left_out, **left_out})

    def less_terms(self, corrections: Sequence[Any]) -> TrainingData:
        """Frames to fit: with labels less the terms that the model is trained on top of."""
        train, validation = (less_terms(part, corrections) for part in (self.train, self.validation))
        return dataclasses.replace(self, train=train, validation=validation)

    def notes(self) -> list[str]:
        """What output and card say of the models that the training starts from."""
        notes = list(self.lineage.notes(self.source.level_of_theory, self.zeros))
        if self.n_left_out:
            notes.append(
                f"{self.n_left_out} frames of `test_data` are left out of the test: {self.lineage.names}, "
                "which the training starts from, has seen them in its own training"
            )
        if self.left_out:
            notes.append(left_out_text(self.left_out))
        return notes


def left_out_text(left_out: Mapping[str, str]) -> str:
    """Number of the frames that are left out, with the reasons and an example."""
    counts = Counter(re.split("[:(,;]", reason)[0].strip() for reason in left_out.values())
    reasons = ", ".join(f"{count}: {reason}" for reason, count in counts.most_common())
    place, reason = next(iter(left_out.items()))
    return f"{len(left_out)} frames have no molecular graph and are left out: {reasons}; {place}: {reason}"


def read_data(options: TrainOptions, split_file: Path | None, lineage: Lineage = NO_LINEAGE) -> TrainingData:
    """Read the frames, and split them as is stored in a file, or anew.

    Parameters
    ----------
    options : TrainOptions
    split_file : Path or None
        A stored split.
    lineage : Lineage
        The models that the training starts from; none of their training frames is drawn to validate or test.

    Raises
    ------
    TrainingError
        If there is nothing to test on, no frame has a label that has a weight, or the data are not those
        the stored split was drawn for.
    """
    source = dataset(options.data)
    located = _read(source, options)
    places, frames_read = list(located), _Made(frames_of(located))
    fitted = options.target_names or [ENERGY]
    zeros = source.zeros_of(fitted)
    split, n_left_out = _split(frames_read, options, split_file, lineage), 0
    parts = {
        part: [(places[k], frames_read[k]) for k in getattr(split, part)]
        for part in ("train", "validation", "test")
    }
    if options.test_data is not None:
        test_source = dataset(options.test_data)
        stated = {"`data`": zeros, "`test_data`": test_source.zeros_of(fitted)}
        check_zeros(stated, fitted, TrainingError)
        given = _read(test_source, options)
        unseen = lineage.unseen(given)
        parts["test"] += unseen.items()
        n_left_out = len(given) - len(unseen)
    if not parts["test"]:
        raise TrainingError("nothing to test on", remedy="give `test_data`, or `split.n_test` above zero")
    frames = {part: [atoms for _, atoms in members] for part, members in parts.items()}
    places = {part: [place for place, _ in members] for part, members in parts.items()}
    data = TrainingData(
        **frames,
        source=source,
        split=split,
        places=places,
        lineage=lineage,
        n_left_out=n_left_out,
        zeros=zeros,
    )
    _check_labels(data, options.loss.fitted, options.fits_energy)
    return data


class _Made(Sequence):
    """Frames that are kept once they are made: the draw and the training look at the same ones.

    Parameters
    ----------
    frames : sequence of Atoms
        A list, or arrays of which an Atoms object is made when it is asked for.
    """

    def __init__(self, frames: Sequence[Atoms]):
        self.frames = frames
        self._made: dict[int, Atoms] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int) -> Atoms:  # type: ignore[override]
        number = range(len(self))[number]
        if number not in self._made:
            self._made[number] = self.frames[number]
        return self._made[number]


def _read(source: DatasetOptions, options: TrainOptions) -> Mapping[str, Atoms]:
    """Frames by file and number in it, with labels that can be fitted."""
    if options.fits_energy:
        return source.read_free()
    located = source.read_free(())
    check_properties(located, [target.as_quantity() for target in options.targets], source)
    return located


def _check_labels(data: TrainingData, fitted: list[str], fits_energy: bool) -> None:
    """Refuse a training without a label that it needs."""
    frames, place = [*data.train, *data.validation], data.source.place
    for label in fitted:
        _check_label(data, label, f"loss.{label}_weight" if fits_energy else "target")
    if fits_energy and not with_label(data.train, "energy"):
        raise TrainingError(
            f"no frame of {place} that trains has an energy, and forces leave a constant open",
            name=place,
            remedy=f"give at least one energy. {data.source.remedy('energy', frames)}",
        )


def warn_of_absent_labels(data: TrainingData, fitted: list[str]) -> None:
    """Say how many frames have each fitted label, where some frames lack one."""
    frames, place = [*data.train, *data.validation], data.source.place
    counts = label_counts(frames, fitted)
    if partly := incomplete(counts, len(frames)):
        warnings.warn(
            f"{place}: not all of the {len(frames)} frames that train and validate have every label: "
            f"{partly}. A label that a frame lacks has weight 0 in that frame",
            stacklevel=2,
        )


def _check_label(data: TrainingData, label: str, option: str) -> None:
    frames = [*data.train, *data.validation]
    for part, members in (("train", data.train), ("validate", data.validation)):
        if with_label(members, label):
            continue
        remedy = data.source.remedy(label, frames)
        if with_label(frames, label):
            remedy = "Draw another split (`seed`, `split.stratify_by`, larger parts)."
        raise TrainingError(
            f"{_asked(option, label)}, and none of the {len(members)} frames of {data.source.place} "
            f"that {part} has {label}.",
            name=option,
            remedy=remedy if option == "target" else f"{remedy} Or set {option} to 0",
        )


def _asked(option: str, label: str) -> str:
    return f"target names {label}" if option == "target" else f"{option} is above 0"


def _split(frames: _Made, options: TrainOptions, split_file: Path | None, lineage: Lineage) -> Split:
    data_hash, path = dataset_hash(frames.frames, options.target_names), split_file or options.split.file
    if path is None:
        return Split.draw(frames, options.split, options.seed, data_hash, lineage)
    split = Split.read(path)
    split.check(path, frames, data_hash, lineage)
    return dataclasses.replace(split, data_hash=data_hash)


def less_terms(frames: Sequence[Atoms], corrections: Sequence[Any]) -> list[Atoms]:
    """Frames with labels less the terms.

    Parameters
    ----------
    frames : sequence of Atoms
        With energy (eV), forces (eV/Å), and stress (eV/Å³) where they have one, in their calculators; they
        are left as they are. A dipole stays as it is.
    corrections : sequence
        As a card names them; see :class:`asecalc_ml.calculators.corrections.Corrected`.
    """
    terms = correction_calculators(corrections)
    return [_less(atoms, terms) for atoms in frames] if terms else list(frames)


def _less(atoms: Atoms, terms: Sequence) -> Atoms:
    labels = {name: value for name, value in atoms.calc.results.items() if name in (*OF_TERMS, "dipole")}
    for term in terms:
        of_term = results_of_part(term, atoms, ("forces", "energy"))
        labels.update({name: labels[name] - of_term[name] for name in OF_TERMS if name in labels})
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **labels)
    return copy
