"""What a run does to its process while it goes on: the number of threads."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from asecalc_ml.threads import torch_threads

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.options import ProtocolOptions


@contextlib.contextmanager
def threads(options: ProtocolOptions) -> Iterator[None]:
    """Threads of OpenMP, and of torch where it is loaded, as the options say; as found afterwards.

    OpenMP's are those of libraries that are loaded by now, such as that of GFN2-xTB.
    """
    with threadpool_limits(options.threads, user_api="openmp"), _torch_threads(options.threads):
        yield


def _torch_threads(number: int) -> contextlib.AbstractContextManager:
    return torch_threads(number) if "torch" in sys.modules else contextlib.nullcontext()
