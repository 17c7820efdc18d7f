"""Springs for several molecules, named in options as "transfer_calculators:Molecules"."""

import os
import signal

from ase.calculators.calculator import Calculator, all_changes
from toy_calculators import Springs


class Molecules(Calculator):
    """Springs between every two atoms of any molecule of ASE's g2, told by its formula.

    At call $TRANSFER_AT of one object it does what $TRANSFER_DOES says: "fail", "disk" (full) or "sigterm".
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
        if what == "fail":
            raise RuntimeError("no convergence")
        if what == "disk":
            raise OSError(28, "No space left on device")
        os.kill(os.getpid(), signal.SIGTERM)

    @property
    def model_hash(self):
        return os.environ.get("TRANSFER_HASH", "a" * 64)
