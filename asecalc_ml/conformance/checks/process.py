"""What a calculator may not change: the state of the process it runs in."""

from __future__ import annotations

import os
import random
import sys
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ProcessState:
    """What others in the process rely on; torch's part is None until torch is imported."""

    environment: dict[str, str]
    working_directory: str
    numpy_errors: dict[str, str]
    random_state: str
    torch_default_dtype: str | None = None
    torch_threads: int | None = None
    torch_gradients: bool | None = None
    torch_random_state: str | None = None

    @classmethod
    def now(cls) -> ProcessState:
        """As it is."""
        states = (random.getstate(), np.random.get_state())  # noqa: NPY002 - others' state is the question
        return cls(
            dict(os.environ),
            str(Path.cwd()),
            {key: str(value) for key, value in np.geterr().items()},
            _digest(repr(states).encode()),
            **_torch_state(),
        )

    def changes(self, later: ProcessState) -> list[str]:
        """Names of what differs; what was not known before is left out."""
        pairs = {f.name: (getattr(self, f.name), getattr(later, f.name)) for f in fields(self)}
        return [_describe(name, *pair) for name, pair in pairs.items() if pair[0] not in (None, pair[1])]


def _torch_state() -> dict:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_rng_state"):  # not there, or half imported
        return {}
    return {
        "torch_default_dtype": str(torch.get_default_dtype()),
        "torch_threads": torch.get_num_threads(),
        "torch_gradients": torch.is_grad_enabled(),
        "torch_random_state": _digest(torch.get_rng_state().numpy().tobytes()),
    }


def _describe(name: str, before: object, after: object) -> str:
    words = name.replace("_", " ")
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(key for key in {**before, **after} if before.get(key) != after.get(key))
        return f"{words}: {', '.join(keys)}"
    return words if "random" in name else f"{words}: {before} is now {after}"


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
