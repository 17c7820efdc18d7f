"""A process that dies before, after or in the middle of any change of a file."""

import os
from collections.abc import Callable
from pathlib import Path

import ase.io.ulm

from asecalc_ml.files.writing import GrowingText
from asecalc_ml.runs.trajectories import extxyz_writer, h5md_writer

KILLED = 9


class Boundaries:
    """Calls ``at`` with a number before and after everything that changes a file."""

    def __init__(self, at: Callable[[int], None]):
        self.at, self.n = at, 0

    def __enter__(self):
        self._before = [
            (owner, name, getattr(owner, name))
            for owner, name in (
                (os, "fsync"),
                (Path, "replace"),
                (Path, "unlink"),
                (GrowingText, "flush"),
                (ase.io.ulm, "writeint"),
                (ase.io.ulm.Writer, "fill"),
                (extxyz_writer, "write_at"),
                (h5md_writer, "write_at"),
            )
        ]
        wrappers = {"flush": self._half_flushed, "write_at": self._half_written}
        for owner, name, function in self._before:
            setattr(owner, name, wrappers.get(name, self._around)(function))
        return self

    def __exit__(self, *_):
        for owner, name, function in self._before:
            setattr(owner, name, function)

    def _pass(self) -> None:
        self.n += 1
        self.at(self.n)

    def _around(self, function):
        def wrapped(*args, **kwargs):
            self._pass()
            result = function(*args, **kwargs)
            self._pass()
            return result

        return wrapped

    def _half_written(self, write_at):
        """The few bytes that count the frames, at the beginning, are written at once."""

        def wrapped(file, data, place):
            self._pass()
            if place:
                write_at(file, data[: len(data) // 2], place)
                self._pass()
            write_at(file, data, place)
            self._pass()

        return wrapped

    def _half_flushed(self, flush):
        def wrapped(text):
            self._pass()
            waiting = text._waiting
            text._waiting = waiting[: len(waiting) // 2]
            flush(text)
            self._pass()
            text._waiting = waiting[len(waiting) // 2 :]
            flush(text)

        return wrapped


def dies_at(number: int, work: Callable[[], object]) -> bool:
    """Do work in a copy of this process that dies at a boundary; whether it did."""

    def die(passed: int) -> None:
        if passed == number:
            os._exit(KILLED)

    process = os.fork()
    if process == 0:
        with Boundaries(die):
            work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == KILLED


def number_of_boundaries(options, directory: Path) -> int:
    with Boundaries(lambda number: None) as boundaries:
        options.run(directory=directory, quiet=True)
    return boundaries.n
