"""The models that a training starts from, and the frames that they were trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from asecalc_ml.errors import TrainingError
from asecalc_ml.store.card import Ancestor, ModelCard
from asecalc_ml.store.model_file import read_seen
from asecalc_ml.store.registry import Registry
from asecalc_ml.store.seen_frames import SeenFrames
from asecalc_ml.structure.fingerprints import fingerprints

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Lineage:
    """Ancestors of a model, and the frames that are known to have been used for their weights.

    Parameters
    ----------
    ancestors : tuple of Ancestor
        The model that the training starts from first.
    seen : SeenFrames
        Frames of all ancestors whose files hold them.
    """

    ancestors: tuple[Ancestor, ...] = ()
    seen: SeenFrames = field(default_factory=SeenFrames.none)

    @classmethod
    def of_parent(cls, spec: str | None) -> Lineage:
        """Of a training that starts from a registered model; None for random weights.

        Raises
        ------
        ModelError
            If the model is unknown or its file damaged.
        """
        if spec is None:
            return cls()
        entry = Registry().find(spec)
        seen, data = read_seen(entry.path), entry.card.dataset
        parent = Ancestor(
            name=entry.name,
            hash=entry.hash,
            data=data and data.name,
            level_of_theory=data and data.level_of_theory,
            zeros=entry.card.zeros,
            knows_frames=seen is not None,
        )
        return cls((parent, *entry.card.ancestors), seen or SeenFrames.none())

    @classmethod
    def of_model(cls, card: ModelCard, seen: SeenFrames | None) -> Lineage:
        """Of a model that has been trained, from its file.

        Parameters
        ----------
        card : ModelCard
        seen : SeenFrames or None
            As :func:`asecalc_ml.store.model_file.read_seen` returns it.
        """
        if seen is None or card.dataset is None:
            return cls(tuple(card.ancestors))
        n_own = card.dataset.n_train or 0, card.dataset.n_validation or 0
        return cls(tuple(card.ancestors), seen.after(*n_own))

    def and_own(self, trained: Sequence[Atoms], validated: Sequence[Atoms]) -> SeenFrames:
        """Frames behind the weights of the model itself: its own, then those of the ancestors, each once."""
        ancestors = (np.unique(rows, axis=0) for rows in (self.seen.trained, self.seen.validated))
        return SeenFrames.of(trained, validated).and_of(SeenFrames(*ancestors))

    @property
    def names(self) -> str:
        """Names of the ancestors, for messages."""
        return ", ".join(f"'{one.name}'" for one in self.ancestors)

    @property
    def unknown(self) -> str:
        """Names of the ancestors whose training frames are not known, for messages."""
        return ", ".join(f"'{one.name}'" for one in self.ancestors if not one.knows_frames)

    def __str__(self) -> str:
        """Names, and what is known of the frames behind the weights."""
        known = []
        if len(self.seen):
            n_trained, n_validated = self.seen.n_different()
            known.append(f"{n_trained:,} training frames, {n_validated:,} more that chose an epoch")
        if self.unknown:
            known.append(f"training frames of {self.unknown} unknown")
        return f"{self.names} ({'; '.join(known)})"

    def barred(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Parts that each frame must not be drawn for, boolean of shape (3, n_frames), in the order of PARTS.

        What an ancestor was trained on may only train. What an ancestor's epoch was chosen by may
        also choose an epoch, and is no frame to test on.
        """
        barred = np.zeros((len(PARTS), len(frames)), dtype=bool)
        if len(self.seen):
            prints = fingerprints(frames)
            barred[1], barred[2] = self.seen.has_trained(prints), self.seen.has_seen(prints)
        return barred

    def unseen(self, located: dict[str, Atoms]) -> dict[str, Atoms]:
        """Frames, by file and number, that no ancestor has seen.

        Raises
        ------
        TrainingError
            If there are none.
        """
        if not len(self.seen):
            return located
        seen = self.seen.has_seen(fingerprints(list(located.values())))
        if seen.all():
            raise TrainingError(
                f"{self.names}, which the training starts from, has seen every one of the {len(located)} "
                "frames of `test_data` in its own training",
                name="test_data",
                value=self.names,
                remedy="give other frames",
            )
        return {place: atoms for (place, atoms), bad in zip(located.items(), seen, strict=True) if not bad}

    def notes(self, level_of_theory: str | None, zeros: Mapping[str, str]) -> Iterator[str]:
        """What output and card say: ancestors of unknown frames, another level of theory or another zero.

        Parameters
        ----------
        level_of_theory : str or None
            Of the labels that are fitted.
        zeros : mapping
            What the labels are relative to, by quantity.
        """
        if self.unknown:
            yield (
                f"the weights come from {self.unknown}, and which frames trained it is not known: test "
                "frames may be among them. Train it again with this version, which records them, or give "
                "`test_data` that it cannot have seen"
            )
        for one in self.ancestors:
            if one.hash is not None and one.level_of_theory != level_of_theory:
                yield (
                    f"the weights come from '{one.name}', trained on labels of "
                    f"{one.level_of_theory or 'an unknown level of theory'}; the labels here are of "
                    f"{level_of_theory or 'an unknown one (give level_of_theory in `data`)'}"
                )
            for name, zero in zeros.items():
                if one.zeros.get(name, zero) != zero:
                    yield (
                        f"the weights come from '{one.name}', whose {name} is relative to {one.zeros[name]}; "
                        f"here it is relative to {zero}. The elements' reference values are fitted anew and "
                        "contain the difference"
                    )
