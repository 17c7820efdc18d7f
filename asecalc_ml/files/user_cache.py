"""Where results that can be made again are kept, and the names under which they are found."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from asecalc_ml.files.home_folder import needing_a_home

if TYPE_CHECKING:
    import torch

#: What to do where the cache cannot be used.
ANOTHER_CACHE = "set XDG_CACHE_HOME to a folder that you can write to"


def cache_folder(kind: str) -> Path:
    """A folder in the user's cache, which need not exist yet."""
    with needing_a_home("XDG_CACHE_HOME"):
        return Path(platformdirs.user_cache_dir("asecalc-ml", appauthor=False)) / kind


def is_writable(folder: Path) -> bool:
    """Return True if files can be made in a folder, which is made if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def fingerprint(facts: list) -> str:
    """32 hexadecimal digits that stand for facts ready for JSON."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def hardware(device: torch.device) -> str:
    """What may change the last digits of a result, or whether machine code runs at all."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {platform.processor()} {torch.backends.cpu.get_cpu_capability()}"
