"""A run that is part of a larger one: an ordinary run directory, made and resumed by the whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ase import Atoms

from asecalc_ml.errors import RunError, RunPausedError, lacks_room
from asecalc_ml.md_protocols.engine import launch, preparation
from asecalc_ml.md_protocols.engine.engine import Engine
from asecalc_ml.md_protocols.engine.provenance import write_beginning
from asecalc_ml.md_protocols.engine.resume import restored
from asecalc_ml.runs import PROTOCOL, EventKind, RunReader, RunWriter
from asecalc_ml.terminal.progress import Progress

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.checkpoint import State
    from asecalc_ml.md_protocols.options import ProtocolOptions


class Whole(Protocol):
    """What a part belongs to: the engine of the whole, or what stands for it in a process that helps.

    Attributes
    ----------
    directory : Path
    state : State
        Its step is the part's, for what the whole says when it pauses.
    progress : Progress
    """

    state: State
    progress: Progress

    @property
    def directory(self) -> Path: ...

    def pause_if_asked(self) -> None:
        """Raise RunPausedError where the process is to end."""

    def note(self, kind: str, message: str, **fields: Any) -> None:
        """Put an event into the whole's events.jsonl."""


class Part(Engine):
    """Engine of a part. It pauses when the whole is asked to, its state on disk.

    Parameters
    ----------
    whole : Whole
    name : str
        As the user sees it.
    n_before : int
        Steps of the parts before it.
    options, state, writer
        As of :class:`~asecalc_ml.md_protocols.engine.engine.Engine`.
    """

    def __init__(
        self,
        whole: Whole,
        name: str,
        n_before: int,
        options: ProtocolOptions,
        state: State,
        writer: RunWriter,
    ):
        done = sum(stage.n_steps for stage in options.checked_stages()[: state.stage])
        super().__init__(options, state, writer, PartProgress(whole.progress, name, n_before + done))
        self._whole = whole

    def pause_if_asked(self) -> None:
        """Keep the state, and let the whole tell."""
        self._whole.state.step = self.state.step  # what the whole's message names
        try:
            self._whole.pause_if_asked()
        except RunPausedError:
            self.note(EventKind.INTERRUPTED, "the test that this run is part of was asked to end")
            if self.integrator is not None:  # anything else begins anew
                self._checkpoint_between()
            raise


class PartProgress(Progress):
    """Shows the steps of a part as steps of the whole, and its warnings with its name."""

    def __init__(self, whole: Progress, name: str, n_before: int):
        super().__init__()
        self._whole, self._name, self._n_before = whole, name, n_before

    def start(self, stage: str, n_steps: int, step: int = 0, unit: str = "steps") -> None:
        """A stage begins."""
        super().start(stage, n_steps, step, unit)
        self._whole.stage = f"{self._name}, {stage}"

    def update(self, step: int) -> None:
        """So many steps of the stage are done."""
        self._whole.update(self._n_before + step)

    def end(self) -> None:
        """The stage is over."""
        self._n_before += self._n_steps

    def warn(self, text: str) -> None:
        """Tell with the name of the part."""
        self._whole.warn(f"{self._name}: {text}")


def carry_on(
    whole: Whole,
    name: str,
    n_before: int,
    options: ProtocolOptions,
    atoms: Atoms,
    linear: bool | None,
    writer: RunWriter,
) -> None:
    """Run a part, or go on with it, to its end, or to where it stops for a reason of its own.

    Parameters
    ----------
    whole : Whole
    name : str
        Of the part.
    n_before : int
        Steps of the parts before it.
    options : ProtocolOptions
    atoms : Atoms
        With calculator.
    linear : bool or None
        Whether it is a linear molecule, where the positions, which need not be at rest, cannot tell.
    writer : RunWriter
        Of the part.

    Raises
    ------
    RunPausedError
        If the whole is asked to end.
    RunError
        If the part cannot be written, or its calculator met a full disk or memory.
    """
    is_new = not (writer.directory / PROTOCOL).is_file()
    options = options.model_copy(update={"directory": str(writer.directory)})
    atoms = preparation.prepare(options, atoms, atoms.calc)
    options.check_start(atoms)
    preparation.announce(options, atoms)
    state = preparation.first_state(options, atoms) if is_new else _restored(options, atoms, writer)
    if linear is not None:
        state.linear = linear
    if is_new:
        write_beginning(options, state, writer)
    _drive(Part(whole, name, n_before, options, state, writer))


def _restored(options: ProtocolOptions, atoms: Atoms, writer: RunWriter) -> State:
    return restored(RunReader(writer.directory), options, atoms, writer, differences=[])


def _drive(part: Part) -> None:
    try:
        part.run(part.options.checked_stages())
    except RunPausedError:
        raise
    except RunError as error:
        if lacks_room(error.__cause__):  # no fault of the calculator: it can go on
            part.note(EventKind.INTERRUPTED, f"interrupted: {error.__cause__}")
            raise
        if RunReader(part.directory).ended_early is None:  # it could not be written
            raise
    else:
        launch.finish(part.writer)
