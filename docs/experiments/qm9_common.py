"""What the experiments on QM9 share: molecules that no model has been trained on, tables, records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from comparisons import markdown

from asecalc_ml.files.writing import write_whole
from asecalc_ml.plugins import get
from asecalc_ml.potentials.datasets.packed.frames import PackedFrames
from asecalc_ml.store.model_file import read_seen
from asecalc_ml.store.registry import Registry
from asecalc_ml.store.seen_frames import SeenFrames
from asecalc_ml.structure.fingerprints import are_among, fingerprints


def qm9() -> PackedFrames:
    """All characterised molecules of QM9, from the package qm9pack."""
    return get("datasets", "qm9")(path="qm9pack").read()


def unseen(
    data: PackedFrames, models: Iterable[str], n_molecules: int, seed: int, keep: Callable[[Atoms], bool]
) -> list[Atoms]:
    """Random molecules for which ``keep`` holds and that neither trained a model nor chose its epoch."""
    seen = [read_seen(Registry().find(name).path) or SeenFrames.none() for name in models]
    known = np.concatenate([rows for one in seen for rows in (one.trained, one.validated)])
    frames: list[Atoms] = []
    numbers = np.random.default_rng(seed).permutation(len(data))
    for start in range(0, len(numbers), 1000):
        batch = [atoms for atoms in data[numbers[start : start + 1000]] if keep(atoms)]
        is_known = are_among(fingerprints(batch), known)
        frames += [atoms for atoms, is_seen in zip(batch, is_known, strict=True) if not is_seen]
        if len(frames) >= n_molecules:
            break
    return frames[:n_molecules]


@dataclass
class Record:
    """Tables of an experiment, printed as Markdown and written as JSON."""

    title: str
    settings: dict[str, object]
    tables: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    start: float = field(default_factory=time.process_time)

    def add(self, name: str, rows: Sequence[dict[str, object]]) -> None:
        """Print a table and keep it."""
        self.tables[name] = list(rows)
        cells = [[_cell(value) for value in row.values()] for row in rows]
        print(f"\n### {name}\n\n{markdown(list(rows[0]), cells) if rows else '(empty)'}\n", flush=True)

    def write(self, path: Path) -> None:
        """Write everything, with the core minutes it took."""
        minutes = (time.process_time() - self.start) / 60
        contents = {
            "title": self.title,
            "settings": self.settings,
            "core_minutes": round(minutes, 2),
            "tables": self.tables,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(contents, indent=1) + "\n")
        print(f"{minutes:.1f} core minutes. Wrote {path}")


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
