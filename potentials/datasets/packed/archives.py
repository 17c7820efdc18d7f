"""Files in tar archives, read one after the other without unpacking."""

from __future__ import annotations

import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from asecalc_ml.errors import DatasetError
from asecalc_ml.files.reading import described


def files_in(
    path: Path, suffix: str, advance: Callable[[int], object] = lambda n_kB: None
) -> Iterator[tuple[str, bytes]]:
    """Names, without folders, and contents of the files of an archive that end in a suffix.

    Parameters
    ----------
    path : Path
        Archive, compressed or not.
    suffix : str
        End of the names, such as ".cif". Names that begin with a dot are left out: macOS adds such files.
    advance : callable
        Is told how many kB of the archive were read since the last call.

    Raises
    ------
    DatasetError
        If the archive is damaged or cut short.
    """
    done = 0
    try:
        with path.open("rb") as compressed, tarfile.open(fileobj=compressed) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name.endswith(suffix) and name[0] != "." and (file := archive.extractfile(member)):
                    yield name, file.read()
                advance(compressed.tell() // 1000 - done)
                done = compressed.tell() // 1000
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        cause = described(error)
        raise DatasetError(
            f"the archive {path} is damaged or cut short ({cause});",
            name=str(path),
            value=cause,
            remedy="download or copy it again",
        ) from error
