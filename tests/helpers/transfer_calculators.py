"""Springs for several molecules, named in options as "transfer_calculators:Molecules"."""

import contextlib
import os
import signal
import time
from pathlib import Path

from ase.calculators.calculator import Calculator, all_changes
from toy_calculators import Springs


class Molecules(Calculator):
    """Springs between every two atoms of any molecule of ASE's g2, told by its formula.

    At call $TRANSFER_AT of one object it does what $TRANSFER_DOES says: "fail", "disk" or "memory" (full),
    or "sigterm". Where $TRANSFER_MAIN is a process, that one first waits until another has come so far, which
    "kill" ends.
    """

    name = "molecules"
    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, stiffness=30.0, refuses=None, fails=False):
        super().__init__()
        self.stiffness, self.refuses, self.fails, self.calls, self.springs = stiffness, refuses, fails, 0, {}

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        formula = atoms.get_chemical_formula()
        if formula == self.refuses:
            raise RuntimeError(f"no parameters for {formula}")
        self.calls += 1
        if self.fails and self.calls == int(os.environ.get("TRANSFER_AT", "-1")):
            self._do(os.environ["TRANSFER_DOES"])
        if formula not in self.springs:
            self.springs[formula] = Springs(formula, self.stiffness)
        self.springs[formula].calculate(atoms, properties, system_changes)
        self.results = self.springs[formula].results

    def _do(self, what):
        is_main = os.environ.get("TRANSFER_MAIN", str(os.getpid())) == str(os.getpid())
        if "TRANSFER_MET" in os.environ:
            self._meet(Path(os.environ["TRANSFER_MET"]), is_main, kills=what == "kill")
        if what == "fail":
            raise RuntimeError("no convergence")
        if what == "disk":
            raise OSError(28, "No space left on device")
        if what == "memory":
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory")
        if what == "sigterm" and is_main:
            os.kill(os.getpid(), signal.SIGTERM)

    def _meet(self, met, is_main, kills):
        deadline = time.monotonic() + 120
        while is_main and not met.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not is_main:
            with contextlib.suppress(FileExistsError):
                met.touch(exist_ok=False)
                if kills:
                    os.kill(os.getpid(), signal.SIGKILL)

    @property
    def model_hash(self):
        return os.environ.get("TRANSFER_HASH", "a" * 64)
