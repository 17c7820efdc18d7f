"""The commands keep freed memory; the library leaves the allocator as it found it."""

import subprocess
import sys

import pytest

from asecalc_ml.cli import process

#: Prints the page faults of ten large arrays that are made and freed, as those of a step of dynamics are.
#: glibc itself keeps freed arrays of up to 32 MiB, so these are larger.
COUNT_FAULTS = """
import resource
{before}
import torch
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step(): return torch.ones(48 << 18)
for _ in range(10):
    step()
start = faults()
for _ in range(10):
    step()
print(faults() - start)
"""


def page_faults(before: str) -> int:
    code = COUNT_FAULTS.format(before=before)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(result.stdout)


LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")


@LINUX
def test_commands_keep_freed_memory():
    # what both commands call before anything else
    kept = page_faults("from asecalc_ml.cli.process import prepare_process; prepare_process()")
    assert kept < page_faults("") / 5


@LINUX
def test_the_library_leaves_the_allocator_alone():
    imports = (
        "import asecalc_ml; from asecalc_ml import MLCalculator; import asecalc_ml.cli.md, asecalc_ml.cli.ml"
    )
    assert page_faults(imports) > page_faults("") / 2


def test_without_mallopt(monkeypatch):
    """Another C library has none, and other systems have no such library."""
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: object())
    assert not process.keep_freed_memory()
