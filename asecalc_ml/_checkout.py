"""Makes the three rooms importable in a checkout, where they lie beside the package instead of inside it.

`setup.cfg` maps the folder `potentials/` to the module `asecalc_ml.potentials`, and so on. In a wheel the
rooms are inside the package and the finder below has nothing to say. In a checkout it answers for them, and
it answers first: an editable installation of another checkout has a finder of its own that would lend us
that one's rooms. Extending `asecalc_ml.__path__` by the root instead makes `asecalc_ml.asecalc_ml`
importable, without end.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
ROOMS = ("potentials", "md_protocols", "analysis")


def is_checkout() -> bool:
    """Whether this package runs from its source tree."""
    return (ROOT / "setup.cfg").is_file() and not (PACKAGE / "potentials").is_dir()


class RoomFinder(MetaPathFinder):
    """Answers for `asecalc_ml.potentials`, `.md_protocols` and `.analysis`, and for nothing else."""

    modules = tuple(f"asecalc_ml.{room}" for room in ROOMS)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Module spec of a room, None for any other module."""
        if fullname not in self.modules:
            return None
        folder = ROOT / fullname.rpartition(".")[2]
        return spec_from_file_location(
            fullname, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def install() -> None:
    """Put the finder in front of all others, once, and only in a checkout."""
    if is_checkout() and not any(isinstance(finder, RoomFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, RoomFinder())
