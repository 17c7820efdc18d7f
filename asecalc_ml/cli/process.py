"""What a command may do to its own process, and the library never does."""

import os


def set_threads(threads: int | None) -> None:
    """Fix the number of threads; it has to come before torch and its like are imported."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if threads:
            os.environ[variable] = str(threads)
