"""Errors that a user can cause. Each message says what was wrong and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

Kind = TypeVar("Kind", bound="AsecalcError")


class AsecalcError(Exception):
    """Base of all errors below; the command line prints its message and exits with status 2.

    Parameters
    ----------
    problem : str
        What was wrong. It may end with the punctuation that leads to the remedy; a colon if it has none.
    name : str, optional
        What the error is about: an option ("timestep_fs"), a column, a model, a plugin, a file.
    value : object, optional
        The value that was given.
    allowed : object, optional
        What is accepted: a collection of names, or a range in words.
    remedy : str, optional
        What to do about it; the end of the message.

    Notes
    -----
    All five are attributes, so that programs need not read the message, which may change. Problems that were
    found together are one error: its attributes are those of the first problem, and its attribute ``others``
    holds an error for each of the rest; see :func:`together`.

    Examples
    --------
    >>> error = ConfigError("timestep_fs is -1", name="timestep_fs", value=-1, remedy="make it positive")
    >>> print(error)
    timestep_fs is -1: make it positive
    >>> error.value
    -1
    """

    def __init__(
        self,
        problem: str = "",
        *,
        name: str | None = None,
        value: Any = None,
        allowed: Any = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.name = name
        self.value = value
        self.allowed = allowed
        self.remedy = remedy
        self.others: tuple[AsecalcError, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self._own_message, *map(str, self.others)])

    @property
    def _own_message(self) -> str:
        if not self.remedy:
            return self.problem
        joint = " " if self.problem.endswith((".", ",", ";", ":", "?")) else ": "
        return f"{self.problem}{joint}{self.remedy}"

    def at(self, place: str) -> Self:
        """Return the same error with a place before its message, such as a file and a line."""
        located = type(self)(f"{place}: {self.problem}")
        located.__dict__.update(self.__dict__ | {"problem": located.problem})
        return located

    def as_kind(self, kind: type[Kind]) -> Kind:
        """Return the same message and attributes as an error of another class."""
        error = kind(self.problem)
        error.__dict__.update(self.__dict__)
        return error


class ConfigError(AsecalcError):
    """A YAML file or an option: unknown key, wrong type, wrong unit, broken syntax."""


class PluginError(AsecalcError):
    """A plugin that is not registered, cannot be loaded, or breaks the contract of its group."""


class StructureError(AsecalcError):
    """A structure that no model can evaluate: empty, NaN, overlapping, element never seen."""


class ModelError(AsecalcError):
    """A model that is unknown, damaged, or not what its card says."""


class DatasetError(AsecalcError):
    """Data that cannot be read, downloaded, split or labelled."""


class PausedError(AsecalcError):
    """Work that was asked to end before it was done: nothing is lost, and the same command continues it.

    The command line exits with status 75, as queueing systems know "try again later".
    """


class StructureFileError(StructureError, DatasetError):
    """A file of structures that is damaged, cut short, or holds frames that would be left out."""


class TrainingError(AsecalcError):
    """A training that cannot start, go on or register its result."""


class TuningError(AsecalcError):
    """A hyperparameter search that cannot start or continue."""


class CalculationError(AsecalcError):
    """A calculation that did not converge, or whose result is not finite."""


class MemoryShortageError(AsecalcError, MemoryError):
    """A calculation that needs more memory than there is, refused before it begins."""


class RunError(AsecalcError):
    """A run directory or a run that cannot be started, resumed or read."""


class RunPausedError(RunError, PausedError):
    """A run that was asked to end before it was done: it is whole, and can be resumed."""


class TrainingPausedError(TrainingError, PausedError):
    """A training that was asked to end before it was done: its last step is stored, and it can be resumed."""


class RunBusyError(RunError):
    """A run that another process is writing."""


class AnalysisError(AsecalcError):
    """An analysis that finds nothing to measure in a run."""


def together(kind: type[Kind], errors: Sequence[AsecalcError]) -> Kind:
    """Return one error of several, whose message has a line for each.

    Parameters
    ----------
    kind : type
        Class of the returned error.
    errors : sequence of AsecalcError
        At least one. The attributes of the first become those of the returned error.

    Returns
    -------
    AsecalcError
        Its attribute ``others`` holds the errors after the first.

    Examples
    --------
    >>> problems = [ConfigError("steps is -1", value=-1), ConfigError("skin_A is 0", value=0)]
    >>> error = together(ConfigError, problems)
    >>> print(error)
    steps is -1
    skin_A is 0
    >>> error.value, [other.value for other in error.others]
    (-1, [0])
    """
    whole = errors[0].as_kind(kind)
    whole.others = (*whole.others, *errors[1:])
    return whole


def refuse_both(**switches: bool) -> None:
    """Refuse switches that contradict each other, such as ``resume_or_start`` and ``overwrite``.

    Raises
    ------
    ConfigError
        If more than one is on.
    """
    on = [f"--{name.replace('_', '-')}" for name, is_on in switches.items() if is_on]
    if len(on) > 1:
        raise ConfigError(
            f"{' and '.join(on)} contradict each other", name=on[0], value=on, remedy="give one"
        )


def lacks_room(error: BaseException | None) -> bool:
    """Whether a disk or a memory failed, torch's of a GPU among them: another try may find room."""
    if isinstance(error, OSError | MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's on a CPU


@contextmanager
def continued_by(advice: Callable[[], str]) -> Iterator[None]:
    """Note how work continues that Ctrl-C or a lack of memory ends.

    Parameters
    ----------
    advice : callable
        Gives a sentence on what is kept and which command continues from there; an empty one if nothing is.
    """
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        ends_work = isinstance(error, KeyboardInterrupt) or lacks_room(error)
        if ends_work and (sentence := advice()):
            error.add_note(sentence)
        raise
