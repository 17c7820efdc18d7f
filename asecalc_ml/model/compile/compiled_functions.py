"""The decision when a shape is compiled, and the code that was compiled so far."""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from asecalc_ml.errors import ModelError
from asecalc_ml.model.compile.no_compiling import may_compile
from asecalc_ml.model.compile.package_cache import CompilationError, PackageCache
from asecalc_ml.model.compile.program import Function, Program, Shape
from asecalc_ml.store.stored_committee import StoredCommittee
from asecalc_ml.store.stored_model import StoredModel

Compile = Literal["auto", "never", "always"]

#: Edges (or triplets, where there are more) of one shape, over all calls, after which "auto" compiles for
#: it: what compiling takes, some 40 s, is saved in as many. Counted and not timed, so that a run goes the
#: same way each time.
EDGES_BEFORE_COMPILING = 2_000_000

#: A call with fewer edges takes no less time than one with these.
FEWEST_EDGES = 200

log = logging.getLogger(__name__)


class CompiledFunctions:
    """Machine code of one model, a function for each shape, compiled or loaded when it pays.

    Parameters
    ----------
    stored : StoredModel, StoredCommittee or None
        None for a model in memory, which has no packages on disk and stays in eager mode.
    compile : {"auto", "never", "always"}
        "auto" loads a package that was compiled before, and compiles a shape after
        :data:`EDGES_BEFORE_COMPILING`, or at once where :meth:`expect` has announced as many.

    Attributes
    ----------
    n_compilations : int
        Shapes that were compiled and not loaded.
    """

    def __init__(self, stored: StoredModel | StoredCommittee | None, compile: Compile):
        self.compile = compile
        self.n_compilations = 0
        self._packages = None if stored is None else PackageCache(stored)
        self._calls: Counter[Shape] = Counter()
        self._functions: dict[Shape, Function] = {}
        self._seen: set[Shape] = set()  # for which a package was looked for
        self._promised: set[Shape] = set()  # compiled in the run that is resumed
        self._failed: set[Shape] = set()  # cannot be compiled here
        self._announced: set[str] = set()  # what is being compiled, in words: stages of chunks share them

    @property
    def shapes(self) -> list[Shape]:
        """Shapes (:class:`asecalc_ml.model.compile.program.Program`) that run as machine code."""
        return sorted(self._functions)

    @property
    def may_compile(self) -> bool:
        """True unless the model is in memory alone, or compiling is switched off."""
        return self._packages is not None and self.compile != "never"

    def has_package(self, shape: Shape) -> bool:
        """True if a package of this shape lies on disk."""
        return self._packages is not None and self._packages.has(shape)

    def get(self, program: Program, n_calls: int = 1) -> Function | None:
        """Compiled code for more calls of a program; None if it runs eagerly.

        A shape that cannot be compiled stays in eager mode, with one warning.
        """
        shape, packages = program.shape, self._packages
        self._calls[shape] += n_calls
        if packages is not None and shape not in self._functions and self._is_due(packages, program):
            try:
                self._load_or_build(packages, program)
            except CompilationError as error:
                self._failed.add(shape)
                self.tell_failure(packages.stored.name, program, error)
        return self._functions.get(shape)

    def tell_failure(self, name: str, program: Program, error: CompilationError) -> None:
        """Warn that a model runs eagerly for the shape of a program."""
        warnings.warn(
            f"model {name!r} cannot be compiled here for {program.size} and continues in eager mode, "
            f"several times slower: {error}",
            stacklevel=3,
        )

    def prepare(self, programs: Iterable[Program]) -> None:
        """Compile programs now, or load what was compiled before.

        Raises
        ------
        ModelError
            If the model cannot be compiled here.
        """
        if self._packages is None:
            raise ModelError("a model in memory cannot be compiled", remedy="save it to a model file first")
        try:
            for program in programs:
                self._load_or_build(self._packages, program)
        except CompilationError as error:
            name = self._packages.stored.name
            problem = f"model {name!r} cannot be compiled here: {error.problem}"
            raise ModelError(problem, name=name, remedy=error.remedy) from error

    def expect(self, shape: Shape, n_calls: int) -> None:
        """Count calls that will come, so that compiling for them comes first and not in their midst."""
        self._calls[shape] += n_calls

    def state(self) -> dict:
        """State that decides whether the next call runs compiled, ready for JSON."""
        return {
            "compile": self.compile,
            "calls": [[*shape, n] for shape, n in self._calls.items()],
            "compiled": [list(shape) for shape in sorted({*self._functions, *self._promised})],
            "failed": [list(shape) for shape in sorted(self._failed)],
        }

    def restore(self, state: dict, current: Callable[[Sequence[int]], Shape]) -> None:
        """Continue as the functions did whose :meth:`state` this is.

        Parameters
        ----------
        state : dict
        current : callable
            Of a shape in a state; gives the shape's present name, where an older version had another.
        """
        self.compile = state["compile"]
        self._calls = Counter({current(shape): n for *shape, n in state["calls"]})
        self._seen = set(self._calls)
        self._promised = {current(shape) for shape in state["compiled"]}
        self._failed = {tuple(shape) for shape in state.get("failed", [])}  # absent up to 0.1.0
        self._functions.clear()

    def _is_due(self, packages: PackageCache, program: Program) -> bool:
        """Return True if a program is to be compiled now.

        A package is looked for once: what another process compiles while a run goes on must not change it.
        """
        shape = program.shape
        if self.compile == "never" or shape in self._failed:
            return False
        if not may_compile() and not packages.has(shape):
            return False
        if self.compile == "always" or shape in self._promised:
            return True
        if self._calls[shape] * max(program.n_edges, FEWEST_EDGES) >= EDGES_BEFORE_COMPILING:
            return True
        first = shape not in self._seen
        self._seen.add(shape)
        return first and packages.has(shape)

    def _load_or_build(self, packages: PackageCache, program: Program) -> None:
        """Run calls of this shape as machine code from now on."""
        self._functions[program.shape] = packages.load(program.shape) or self._built(packages, program)

    def _built(self, packages: PackageCache, program: Program) -> Function:
        name = packages.stored.name
        if program.size not in self._announced:
            self._announced.add(program.size)
            # A warning, since Python shows it without any logging set up, and compiling is a long silence.
            log.warning("compiling %s for %s, once on this machine: about a minute", name, program.size)
        start = time.monotonic()
        function = packages.build(program)
        self.n_compilations += 1
        log.info("compiled %s in %.0f s", name, time.monotonic() - start)
        return function
