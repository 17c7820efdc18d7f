"""Checkpoints of a training: written whole, in the folder where they stay."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from asecalc_ml.files.writing import write_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Replaces a checkpoint at once or not at all.

    Lightning's own writes to the folder for temporary files and moves the file from there, which between two
    file systems is a copy: a kill or a full disk cuts the checkpoint short.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_whole(Path(path), content.getvalue())
