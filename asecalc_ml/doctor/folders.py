"""Folders that the package and the libraries below it write to: sizes, permissions, free space."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from asecalc_ml.doctor.finding import Finding
from asecalc_ml.files.full_disk import nearest_existing, size_text
from asecalc_ml.files.user_cache import ANOTHER_CACHE, cache_folder
from asecalc_ml.files.writing import obstacle

#: Free bytes below which a folder counts as full: one compiled model and its temporary files take 20 MB.
LEAST_FREE = 100 * 10**6

#: Seconds after which counting a large folder stops.
COUNTING_s = 2.0


@dataclass(frozen=True)
class Folder:
    """A folder that is written to.

    Parameters
    ----------
    name : str
    path : Path
        It need not exist.
    remedy : str
        How another place is chosen; empty for folders that only other packages need.
    """

    name: str
    path: Path
    remedy: str = ""


def own_caches() -> list[Folder]:
    """Return the package's own caches."""
    kinds = {
        "compiled": "compiled models",
        "golden": "stamps of verified models",
        "datasets": "data sets as arrays",
    }
    return [Folder(name, cache_folder(kind), ANOTHER_CACHE) for kind, name in kinds.items()]


def temporary_folder() -> Folder:
    """Return the folder of temporary files, to which compiled models are unpacked."""
    return Folder("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder with free space")


def inductor_cache() -> Folder:
    """Return the cache of torch's compiler, which compiled trainings fill.

    By the rule of ``torch._inductor.runtime.cache_dir_utils``, whose import takes two seconds.
    """
    import getpass
    import re

    user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
    given = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    place = Path(given) if given else Path(tempfile.gettempdir()) / f"torchinductor_{user}"
    remedy = "set TORCHINDUCTOR_CACHE_DIR to a folder that you can write to"
    return Folder("torch's compiler", place.absolute(), remedy)


def caches_of_others() -> list[Folder]:
    """Return caches that libraries below this package write, which work without them."""
    user = Path(platformdirs.user_cache_dir())
    matplotlib = os.environ.get("MPLCONFIGDIR")
    places = {
        "NVIDIA Warp (torchmd-net)": Path(os.environ.get("WARP_CACHE_PATH", user / "warp")),
        "matplotlib": Path(matplotlib) if matplotlib else user / "matplotlib",
        "Weights & Biases": Path(os.environ.get("WANDB_CACHE_DIR", user / "wandb")),
        "Triton (GPU)": Path(os.environ.get("TRITON_CACHE_DIR", Path.home() / ".triton" / "cache")),
        "CUDA": Path(os.environ.get("CUDA_CACHE_PATH", Path.home() / ".nv" / "ComputeCache")),
    }
    return [Folder(name, path) for name, path in places.items()]


def check_caches() -> Iterator[Finding]:
    """Check that caches and the temporary folder can be written to, and measure them."""
    for folder in (*own_caches(), inductor_cache()):
        yield state_of(folder, "caches")
    temporary = temporary_folder()
    yield state_of(temporary, "caches", is_measured=False)
    for folder in caches_of_others():
        if folder.path.exists():
            yield Finding("caches", folder.name, "passed", f"{used(folder.path)} in {folder.path}")


def state_of(folder: Folder, topic: str, is_measured: bool = True) -> Finding:
    """Check that a folder can be written to and has free space.

    Parameters
    ----------
    folder : Folder
    topic : str
    is_measured : bool
        False for a folder that others fill too.
    """
    if why := obstacle(folder.path):
        text = f"{folder.path} cannot be written to ({why})"
        return Finding(topic, folder.name, "failed", text, folder.remedy)
    free = shutil.disk_usage(nearest_existing(folder.path)).free
    size = used(folder.path) if is_measured else ""
    text = f"{size} in {folder.path}, {size_text(free)} free".removeprefix(" in ")
    if free < LEAST_FREE:
        remedy = f"free some space (asecalc-ml doctor --clean), or {folder.remedy}"
        return Finding(topic, folder.name, "failed", text, remedy)
    return Finding(topic, folder.name, "passed", text)


def used(path: Path) -> str:
    """Return the size of a folder and its number of files, in words."""
    if not path.exists():
        return "nothing yet"
    n_bytes, n_files, is_complete = measure(path)
    at_least = "" if is_complete else "more than "
    return f"{at_least}{size_text(n_bytes)} in {n_files} file{'s' * (n_files != 1)}"


def measure(path: Path, limit_s: float = COUNTING_s) -> tuple[int, int, bool]:
    """Measure a file or a folder.

    Parameters
    ----------
    path : Path
    limit_s : float
        Time after which counting stops, s.

    Returns
    -------
    tuple of int, int, bool
        Bytes on the disk, number of files, and True if everything was counted.
    """
    end, n_bytes, n_files = time.monotonic() + limit_s, 0, 0
    for file in files_below(path):
        try:
            status = file.lstat()
        except OSError:  # it has just been removed
            continue
        n_bytes += getattr(status, "st_blocks", -(-status.st_size // 512)) * 512
        n_files += 1
        if time.monotonic() > end:
            return n_bytes, n_files, False
    return n_bytes, n_files, True


def files_below(path: Path) -> Iterator[Path]:
    """Yield a file itself, or all files below a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
