"""The machine: C++ compiler, processor cores and threads, GPUs, and the allocator."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from asecalc_ml.doctor.finding import Finding

#: Variables that set the number of threads; the first that is set counts for torch.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

ANOTHER_COMPILER = "install g++ (apt install g++, or conda install gxx), or set CXX to a compiler that works"

#: A program that fails where OpenMP is not linked.
SOURCE = """#include <omp.h>
extern "C" int threads() {
    int n = 0;
    #pragma omp parallel num_threads(2)
    #pragma omp atomic
    n += 1;
    return n;
}
"""
COMPILER_TIMEOUT_s = 60


def check_compiler() -> Iterator[Finding]:
    """Compile, link and run a function with OpenMP by the compiler that torch takes."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    complaint, output = _called([compiler, "--version"])
    if complaint is not None:
        text = f"{compiler} does not run ({complaint}), so models stay in plain PyTorch, several times slower"
        yield Finding("compiler", "C++ compiler", "failed", text, ANOTHER_COMPILER)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield from _compiled(compiler, output.partition("\n")[0], Path(folder))
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if headers.is_file():
        yield Finding("compiler", "Python's headers", "passed", str(headers))
    else:
        text = f"{headers} is missing, and compiled trainings (compile: true) need it"
        remedy = "install the headers of this Python (apt install python3-dev)"
        yield Finding("compiler", "Python's headers", "failed", text, remedy)


def _compiled(compiler: str, version: str, folder: Path) -> Iterator[Finding]:
    source = folder / "threads.cpp"
    source.write_text(SOURCE.replace("#include <omp.h>", "").replace("#pragma omp", "//"))
    shared = ["-shared", "-fPIC", "-O2", "-std=c++20"]
    complaint, _ = _called([compiler, *shared, str(source), "-o", str(folder / "plain.so")])
    if complaint is not None:
        text = f"{version} ({compiler}) cannot compile ({complaint})"
        yield Finding("compiler", "C++ compiler", "failed", text, ANOTHER_COMPILER)
        return
    yield Finding("compiler", "C++ compiler", "passed", f"{version} ({compiler})")
    source.write_text(SOURCE)
    library = folder / "openmp.so"
    complaint, _ = _called([compiler, *shared, "-fopenmp", str(source), "-o", str(library)])
    if complaint is None:
        complaint = _run(library)
    if complaint is None:
        yield Finding("compiler", "OpenMP", "passed", "it links, and runs two threads")
    elif sys.platform == "darwin":  # where torch brings a library of its own
        yield Finding("compiler", "OpenMP", "undecided", complaint)
    else:
        remedy = "install the OpenMP library of the compiler (libgomp for g++, libomp for clang++)"
        yield Finding("compiler", "OpenMP", "failed", complaint, remedy)


def _run(library: Path) -> str | None:
    """Return what is wrong with the compiled library, in a process of its own; None if nothing is."""
    code = f"import ctypes; print(ctypes.CDLL({str(library)!r}).threads())"
    environment = {**os.environ, "OMP_DYNAMIC": "false", "OMP_THREAD_LIMIT": "2"}
    complaint, output = _called([sys.executable, "-c", code], environment)
    if complaint is None and output.strip() != "2":
        return f"a parallel region has {output.strip()} threads in place of 2"
    return complaint


def _called(command: list[str], environment: Mapping[str, str] | None = None) -> tuple[str | None, str]:
    """Return what is wrong with a command, in one line, and its output; None if nothing is wrong."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=COMPILER_TIMEOUT_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return getattr(error, "strerror", None) or str(error), ""
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        told = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
        return f"exit status {done.returncode}" + f": {told.strip()}" * bool(told), done.stdout
    return None, done.stdout


def check_threads(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Compare the threads that are asked for with the cores that this process may use.

    Parameters
    ----------
    environment : mapping
        Variables as the user has set them; commands set some of them themselves.
    """
    import psutil

    n_cores, why = usable_cores(environment)
    physical = psutil.cpu_count(logical=False)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    text = f"{n_cores} can be used ({why}), {physical} physical; load over the last minute {load:.1f}"
    yield Finding("threads", "cores", "passed", text)
    for variable in THREADS:
        value = environment.get(variable)
        if value is None:
            continue
        if not value.isdigit() or int(value) < 1:
            yield Finding("threads", variable, "undecided", f"{value!r} is no number of threads")
        elif int(value) > n_cores:
            text = f"{value}, more than the {n_cores} cores, so that threads wait for each other"
            yield Finding("threads", variable, "failed", text, f"export {variable}={n_cores}, or 1")
        else:
            yield Finding("threads", variable, "passed", value)
    if not any(variable in environment for variable in THREADS):
        text = (
            f"{THREADS[0]} is not set: commands take what `threads` says (1 by default), Python scripts all "
            f"{n_cores} cores"
        )
        yield Finding("threads", THREADS[0], "passed", text)


def usable_cores(environment: Mapping[str, str]) -> tuple[int, str]:
    """Return the number of cores that this process may use, and what limits it."""
    limits = [(os.cpu_count() or 1, "all of the machine")]
    if hasattr(os, "sched_getaffinity"):
        limits.append((len(os.sched_getaffinity(0)), "by the affinity of this process"))
    if (quota := _quota()) is not None:
        limits.append((quota, "by the quota of its control group"))
    if environment.get("SLURM_CPUS_PER_TASK", "").isdigit():
        limits.append((int(environment["SLURM_CPUS_PER_TASK"]), "by SLURM_CPUS_PER_TASK"))
    return min(limits, key=lambda limit: limit[0])


def _quota() -> int | None:
    """Cores that a control group of version 2 allows; None for no limit."""
    try:
        allowed, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(allowed) // int(period))
    except (OSError, ValueError):  # no such file; "max", which is no limit
        return None


def check_devices() -> Iterator[Finding]:
    """Check what torch sees of processors and GPUs."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    text = f"{platform.processor() or platform.machine()}, {capability}; torch {torch.__version__} uses "
    yield Finding("devices", "CPU", "passed", f"{text}{torch.get_num_threads()} thread(s) here")
    for number in range(torch.cuda.device_count()):
        yield _gpu(f"cuda:{number}")
    if torch.cuda.is_available():
        return
    if not Path("/dev/nvidiactl").exists():
        yield Finding("devices", "GPU", "not applicable", "this machine has no NVIDIA GPU")
    elif os.environ.get("CUDA_VISIBLE_DEVICES", "not set") in ("", "-1"):
        yield Finding("devices", "GPU", "not applicable", "CUDA_VISIBLE_DEVICES hides the GPUs")
    else:
        why = "has no CUDA" if torch.version.cuda is None else "cannot use its driver"
        remedy = "install torch for CUDA (pytorch.org), and a driver for which `nvidia-smi` works"
        yield Finding("devices", "GPU", "failed", f"there is one, and this torch {why}", remedy)


def _gpu(name: str) -> Finding:
    import torch

    try:
        free, total = torch.cuda.mem_get_info(name)
        torch.ones(1, dtype=torch.float64, device=name).item()
    except RuntimeError as error:
        remedy = "look at `nvidia-smi`: another process may use the GPU alone, or its memory"
        return Finding("devices", name, "failed", str(error).partition("\n")[0], remedy)
    text = f"{torch.cuda.get_device_name(name)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    return Finding("devices", name, "passed", text)


def check_allocator(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check whether freed memory can be kept, which makes steps of large structures faster."""
    if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        yield Finding("settings", "freed memory", "not applicable", "the C library is not glibc")
    elif "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        yield Finding("settings", "freed memory", "passed", f"GLIBC_TUNABLES={environment['GLIBC_TUNABLES']}")
    else:
        text = (
            "commands keep it; Python scripts give it back at each step, which costs time with thousands of "
            "atoms in plain PyTorch (docs/large_systems.md)"
        )
        yield Finding("settings", "freed memory", "passed", text)
