"""Published data sets by name: downloaded, resumed after a cut connection, checked against a known hash."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import DatasetError
from asecalc_ml.files.full_disk import reason
from asecalc_ml.terminal.progress import Advance, progress

CHUNK_BYTES = 64 * 1024
TIMEOUT_S = 30
ATTEMPTS = 5
PAUSE_S = 2.0
PARTIAL_CONTENT, RANGE_REFUSED = 206, 416
SCHEMES = ("http://", "https://")

# The repository of rMD17's author, pinned to one commit. Licence CC0-1.0.
RMD17_URL = (
    "https://raw.githubusercontent.com/andersx/rmd17-npz/4f6bb0a186822c90d47cd98b7a27991fe0b3173b/rmd17-npz"
)

# The Materials Virtual Lab's repository, pinned to one commit. Licence BSD-3-Clause.
MLEARN_URL = (
    "https://raw.githubusercontent.com/materialsvirtuallab/mlearn/"
    "10c427a5480c6281c15c64efaf869b03be04818f/data"
)


# The author of JAT keeps a copy of the smallest file of ANI-1, pinned to one commit.
ANI1_URL = (
    "https://raw.githubusercontent.com/stefanhoedl/JAT_potential/"
    "22cad18f9a53e0f56ae2ed1bb7c25eb70cca2381/ani1/ANI-1_release"
)

# NeuralIL's authors, pinned to one commit. Licence Apache-2.0.
EAN_URL = (
    "https://raw.githubusercontent.com/Madsen-s-research-group/neuralil-public-releases/"
    "dcfadc67c12eac2ed425302d8f0180c1a7b90f4b/data_sets/EAN"
)


@dataclass(frozen=True)
class RemoteFile:
    """A file, the folder it is published in, its size, its SHA-256, and its name there if it has another."""

    name: str
    folder: str
    n_bytes: int
    sha256: str
    published_name: str | None = None


def _rmd17(molecule: str, n_bytes: int, train: str, test: str) -> tuple[RemoteFile, RemoteFile]:
    """Both parts of the first of the five published splits."""
    return (
        RemoteFile(f"rmd17_{molecule}_train_01.npz", RMD17_URL, n_bytes, train),
        RemoteFile(f"rmd17_{molecule}_test_01.npz", RMD17_URL, n_bytes, test),
    )


SOURCES: dict[str, tuple[RemoteFile, ...]] = {
    "rmd17-benzene": _rmd17(
        "benzene",
        889794,
        "6e69deb5dc8663c2d2461cc50e522c74742acea7b4185da348fc08585a15cdc7",
        "4aad4aa2f5ae6aa78d2d9f5da7cb285c97864cfbdf054b67de12a1429b249534",
    ),
    "rmd17-ethanol": _rmd17(
        "ethanol",
        673791,
        "096946747b8d9dcfa042b44f8debbd3da387dfe1586b659e3be789cc4927316a",
        "c3594a0f93d5992e02f9eb671392fb2e5021b3fa4f902417886966d1e4f64e1e",
    ),
    "rmd17-malonaldehyde": _rmd17(
        "malonaldehyde",
        673791,
        "95723385cdfd7f8446a84cdff607f14901e4c2b3949db7a965147dc5098d8ee1",
        "147404574d4fe3204dea7eb3799426d264e36b7900012f27fd2d26a26832fdaf",
    ),
    "rmd17-uracil": _rmd17(
        "uracil",
        889794,
        "e1d450430362e3bebdeea96b24501f5e56a5a8af1eb02d50cb763f48b51523cf",
        "ceda757f7670d97080ec3c28dfb559aeb8ca54f49e7f0da0682fa1eb5ac00907",
    ),
    "mlearn-si": (
        RemoteFile(
            "mlearn_si_training.json",
            f"{MLEARN_URL}/Si",
            2669946,
            "ae6d4b0a65b00e0fcf7ba0a6fad366716710d2f0d21d70199203089c6866b500",
            published_name="training.json",
        ),
        RemoteFile(
            "mlearn_si_test.json",
            f"{MLEARN_URL}/Si",
            309803,
            "d452b30a89f23bff76f7cc529b7b6c2d159ea81ccd5a4599fb1a18207654fa91",
            published_name="test.json",
        ),
    ),
    "ani1-s01": (
        RemoteFile(
            "ani_gdb_s01.h5",
            ANI1_URL,
            634677,
            "ccea4d34bf4d281b857c67864c54ed1883bbae7b394d87ff43367564d438b2e6",
        ),
    ),
    "ean": (
        RemoteFile(
            "ean_validation.json",
            EAN_URL,
            2178840,
            "ca384ecb51eeff60e6a567dce033d9a290bf56e8e14f751f212e11616f494855",
            published_name="validation_original.json",
        ),
    ),
}


def fetch(name: str, directory: str | Path, url: str | None = None, quiet: bool = False) -> list[Path]:
    """Download the files of a published data set.

    A file that is there already with the right hash is left alone. What a cut connection left is kept and
    completed by the next attempt, in this call or a later one. A file gets its name only once it is whole.

    Parameters
    ----------
    name : str
        Of :data:`SOURCES`, such as "rmd17-ethanol": 1000 frames to train on and 1000 to test; or "mlearn-si".
    directory : str or Path
        Made where it does not exist.
    url : str, optional
        Folder of a mirror, instead of the published one; the hashes stay.
    quiet : bool
        Show no progress.

    Returns
    -------
    list of Path

    Raises
    ------
    DatasetError
        If the name is unknown, the server cannot be reached or refuses, the directory cannot be written, or a
        hash is wrong.
    """
    directory = Path(directory)
    files = _files(name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return [_fetch_file(file, directory, url or file.folder, quiet) for file in files]
    except OSError as error:
        raise DatasetError(
            f"cannot write to {directory}: {reason(error, directory)}.",
            name=str(directory),
            remedy="Choose another folder.",
        ) from error


def _files(name: str) -> tuple[RemoteFile, ...]:
    if name in SOURCES:
        return SOURCES[name]
    remedy = f"Known are {', '.join(sorted(SOURCES))}."
    raise unknown_name_error(DatasetError, f"no data set is called '{name}'", name, SOURCES, remedy)


def _fetch_file(file: RemoteFile, directory: Path, folder: str, quiet: bool) -> Path:
    target, part = directory / file.name, directory / f".{file.name}.part"
    url = f"{folder.rstrip('/')}/{file.published_name or file.name}"
    if target.exists():
        _check_hash(target, file, str(target), "has another content", "move it away and fetch again")
        return target
    with progress(file.name, file.n_bytes, quiet, unit="bytes") as advance:
        _download(url, part, file, advance)
    try:
        _check_hash(part, file, url, "is not the published file: it changed, or was altered on its way")
    except DatasetError:
        part.unlink()
        raise
    os.replace(part, target)
    return target


def _check_hash(path: Path, file: RemoteFile, name: str, fault: str, remedy: str | None = None) -> None:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != file.sha256:
        raise DatasetError(
            f"wrong hash: {name} {fault} (SHA-256 {sha256}, expected {file.sha256})",
            name=name,
            value=sha256,
            allowed=[file.sha256],
            remedy=remedy,
        )


def _download(url: str, part: Path, file: RemoteFile, advance: Advance) -> None:
    """Ask again, for the rest only, until all bytes are there."""
    advance(_size(part))
    reason: Exception | str = "the connection was cut"
    for attempt in range(ATTEMPTS):
        if _size(part) >= file.n_bytes:
            return
        if attempt:
            time.sleep(PAUSE_S)
        try:
            _receive(url, part, file, advance)
        except urllib.error.HTTPError as error:
            if error.code != RANGE_REFUSED:
                problem = f"{url}: the server answers {error.code} ({error.reason})"
                raise DatasetError(problem, name=url, value=error.code) from error
            part.unlink(missing_ok=True)
        except urllib.error.URLError as error:
            raise _unreachable(url, part, error.reason) from error
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = error
    if _size(part) < file.n_bytes:
        raise DatasetError(
            f"{url}: {_size(part)} of {file.n_bytes} bytes arrived in {ATTEMPTS} attempts ({reason}) and are "
            "kept",
            name=url,
            value=_size(part),
            allowed=[file.n_bytes],
            remedy="run the command again to fetch the rest",
        )


def _receive(url: str, part: Path, file: RemoteFile, advance: Advance) -> None:
    if not url.startswith(SCHEMES):
        raise DatasetError(
            f"'{url}' is not an address of a server",
            name=url,
            value=url,
            allowed=SCHEMES,
            remedy=f"give one that begins with {' or '.join(SCHEMES)}",
        )
    begin = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        goes_on = response.status == PARTIAL_CONTENT
        announced = int(response.headers.get("Content-Length", -1)) + (begin if goes_on else 0)
        if "Content-Length" in response.headers and announced != file.n_bytes:
            raise DatasetError(
                f"{url} has {announced} bytes, expected {file.n_bytes}: another file",
                name=url,
                value=announced,
                allowed=[file.n_bytes],
            )
        if not goes_on:
            advance(-begin)  # the server sends all of it anew
        with part.open("ab" if goes_on else "wb") as stream:
            while chunk := response.read(CHUNK_BYTES):
                stream.write(chunk)
                advance(len(chunk))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _unreachable(url: str, part: Path, reason: object) -> DatasetError:
    return DatasetError(
        f"cannot reach {url} ({reason})",
        name=url,
        remedy=f"check the network, or download the file elsewhere and put it into {part.parent}",
    )
