"""A model as one safetensors file: weights, and the card in its header. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from textwrap import shorten

from pydantic import ValidationError

from asecalc_ml.card import SCHEMA_VERSION, ModelCard
from asecalc_ml.config import parse_options
from asecalc_ml.errors import ModelError
from asecalc_ml.files import write_whole
from asecalc_ml.plugins import get

SUFFIX = ".safetensors"
_HEADER_KEY = "card"


def save_model(path: Path, model, card: ModelCard) -> None:
    """Write a model whole or not at all.

    Parameters
    ----------
    path : Path
    model : asecalc_ml.model.Model
    card : ModelCard
    """
    from safetensors.torch import save

    # Cloned, since an architecture may have one layer under two names, which safetensors refuses.
    state = model.state_dict().items()
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state}
    write_whole(path, save(tensors, metadata={_HEADER_KEY: card.model_dump_json()}))


def read_card(path: Path) -> ModelCard:
    """The card of a model file, without its weights and without torch.

    Raises
    ------
    ModelError
        If the file is missing, damaged, not one of ours, or written by a newer version.
    """
    header = _header(path)
    if _HEADER_KEY not in header:
        raise ModelError(
            f"{path} holds no model card, so it is no model of this package; train one, or get "
            "the file that `asecalc-ml train` or `asecalc-ml models export` wrote"
        )
    try:
        data = json.loads(header[_HEADER_KEY])
        if data.get("schema_version", 0) > SCHEMA_VERSION:
            raise ModelError(f"{path} was written by a newer asecalc-ml: pip install --upgrade asecalc-ml")
        return ModelCard.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "card"
        raise ModelError(
            f"the model card in {path} cannot be read ({place}: {first['msg']}); {_REMEDY}"
        ) from error
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise ModelError(f"the model card in {path} cannot be read ({error}); {_REMEDY}") from error


def read_model(path: Path):
    """Model (asecalc_ml.model.Model, in the type it was trained in) and card of a file.

    Raises
    ------
    ModelError
        As :func:`read_card`, and if the weights do not fit the architecture.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from asecalc_ml.model import Model

    card = read_card(path)
    architecture = parse_options(
        card.hyperparameters, get("architectures", card.architecture), source=str(path)
    )
    with torch.random.fork_rng(devices=[]):  # random weights, replaced below, must not use up a caller's seed
        potential = architecture.build()
    model = Model(potential, pooling=card.pooling).set_dtype(getattr(torch, card.dtype))
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        reason = shorten(str(error), 200)
        raise ModelError(
            f"the weights in {path} do not fit its architecture ({reason}); {_REMEDY}"
        ) from error
    return model, card


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


_REMEDY = "the file is damaged: copy it again from where it came, or train the model anew"


def _header(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise ModelError(f"{path} is a folder; a model is one file, NAME{SUFFIX}")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except FileNotFoundError as error:
        raise ModelError(f"no model file {path}") from error
    except PermissionError as error:
        raise ModelError(f"no permission to read {path}: ask its owner for it") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as a model ({error}); {_REMEDY}") from error
