"""Errors that a user can cause. Each message says what was wrong and what to do about it."""


class AsecalcError(Exception):
    """Base of all errors below; the command line prints its message and exits with status 2."""


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


class StructureFileError(StructureError, DatasetError):
    """A file of structures that is damaged, cut short, or holds frames that would be left out."""


class TrainingError(AsecalcError):
    """A training that cannot start, go on or register its result."""


class CalculationError(AsecalcError):
    """A calculation that did not converge, or whose result is not finite."""


class RunError(AsecalcError):
    """A run directory or a run that cannot be started, resumed or read."""


class RunPausedError(RunError):
    """A run that was asked to end before it was done: it is whole, and can be resumed."""


class RunBusyError(RunError):
    """A run that another process is writing."""


class AnalysisError(AsecalcError):
    """An analysis that finds nothing to measure in a run."""


def lacks_room(error: BaseException | None) -> bool:
    """Whether a disk or a memory failed, torch's of a GPU among them: another try may find room."""
    return isinstance(error, OSError | MemoryError) or type(error).__name__ == "OutOfMemoryError"
