"""A model as one safetensors file: weights, and the card in its header. Nothing is ever unpickled.

A trained model's file also holds fingerprints of the frames that its weights rest on (``seen_frames.py``),
and Cholesky factors that its uncertainty is computed with (:mod:`asecalc_ml.model.heads.last_layer`).

The header also holds a checksum of card and weights. Golden values cannot show every change: weights of an
element that their structure lacks, corrections, a last bit. Models that ship were written without, and
runs record the hash of the file, which a checksum inside would change: theirs are in a list beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeVar

from asecalc_ml.config.options import parse_options
from asecalc_ml.errors import ModelError
from asecalc_ml.files.reading import described
from asecalc_ml.files.writing import write_whole
from asecalc_ml.plugins import get
from asecalc_ml.store.card import SCHEMA_VERSION, ModelCard

if TYPE_CHECKING:
    import numpy as np

    from asecalc_ml.model.heads.last_layer import LastLayerUncertainty
    from asecalc_ml.model.model import Model
    from asecalc_ml.model.potential import Potential
    from asecalc_ml.store.seen_frames import SeenFrames

SUFFIX = ".safetensors"

T = TypeVar("T")

#: Models that ship with the package.
SHIPPED = Path(__file__).parents[1] / "data" / "models"
CHECKSUMS = "SHA256SUMS"  # as `sha256sum *.safetensors` prints them

_HEADER_KEY, _CHECKSUM_KEY = "card", "sha256"
# these begin the names of tensors that are no weights
_FRAMES, _UNCERTAINTY = "frames.", "uncertainty."


def save_model(
    path: Path,
    model: Model,
    card: ModelCard,
    seen: SeenFrames | None = None,
    uncertainty: LastLayerUncertainty | None = None,
) -> None:
    """Write a model whole or not at all.

    Parameters
    ----------
    path : Path
    model : asecalc_ml.model.model.Model
    card : ModelCard
    seen : SeenFrames, optional
        Frames that the weights rest on; None if they are not known.
    uncertainty : LastLayerUncertainty, optional
    """
    import torch
    from safetensors.torch import save

    # Cloned, since an architecture may have one layer under two names, which safetensors refuses.
    state = model.state_dict().items()
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state}
    for prefix, further in ((_FRAMES, seen), (_UNCERTAINTY, uncertainty)):
        if further is not None:
            tensors |= {prefix + name: torch.from_numpy(array) for name, array in further.arrays().items()}
    write_whole(path, _with_checksum(save(tensors, metadata={_HEADER_KEY: card.model_dump_json()})))


def read_card(path: Path) -> ModelCard:
    """The card of a model file, without its weights and without torch.

    Raises
    ------
    ModelError
        If the file is missing, damaged, not one of ours, or written by a newer version.
    """
    header = _header(path)
    if _has_changed(path, header):
        raise _damaged(path, f"{path} has changed since it was written (its checksum differs)")
    if _HEADER_KEY not in header:
        raise ModelError(
            f"{path} holds no model card, so it is no model of this package;",
            name=str(path),
            remedy="train one, or get the file that `asecalc-ml train` or `asecalc-ml models export` wrote",
        )
    try:
        data = json.loads(header[_HEADER_KEY])
        if data.get("schema_version", 0) > SCHEMA_VERSION:
            raise ModelError(
                f"{path} was written by a newer asecalc-ml",
                name=str(path),
                value=data["schema_version"],
                allowed=f"at most {SCHEMA_VERSION}",
                remedy="pip install --upgrade asecalc-ml",
            )
        return ModelCard.model_validate(data)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:  # pydantic's is a ValueError
        raise _damaged(path, f"the model card in {path} cannot be read ({described(error)})") from error


def read_model(path: Path) -> tuple[Model, ModelCard]:
    """Model (asecalc_ml.model.model.Model, in the type it was trained in) and card of a file.

    Raises
    ------
    ModelError
        As :func:`read_card`, and if the weights do not fit the architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card = read_card(path)
    model = _build(path, card, seed=0)  # random weights, replaced below
    try:
        tensors, no_weights = load_file(path).items(), (_FRAMES, _UNCERTAINTY)
        model.load_state_dict({name: tensor for name, tensor in tensors if not name.startswith(no_weights)})
    except (RuntimeError, SafetensorError) as error:
        reason = shorten(str(error), 200)
        raise _damaged(path, f"the weights in {path} do not fit its architecture ({reason})") from error
    return model, card


def untrained_model(path: Path, seed: int) -> Model:
    """A model like that of a file, with random weights: the control of what training has done.

    Architecture, scales and reference values are those of the file; training starts from such weights.

    Parameters
    ----------
    path : Path
    seed : int
        Of the weights. Torch's random state is left as it was found.

    Raises
    ------
    ModelError
        As :func:`read_model`.
    """
    trained, card = read_model(path)
    model = _build(path, card, seed)
    for kept in ("scale", "shift"):
        getattr(model, kept).copy_(getattr(trained, kept))
    return model


def _build(path: Path, card: ModelCard, seed: int) -> Model:
    """The architecture of a card with random weights."""
    import torch

    from asecalc_ml.model.architectures import build_potential
    from asecalc_ml.model.heads.build import build_heads
    from asecalc_ml.model.model import Model

    architecture = parse_options(
        card.hyperparameters, get("architectures", card.architecture), source=str(path)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        potential = build_potential(architecture)
        heads = build_heads(card.quantities, potential)
    _check_cutoffs(path, card, potential)
    return Model(potential, heads=heads).set_dtype(getattr(torch, card.dtype))


def read_seen(path: Path) -> SeenFrames | None:
    """Frames that a model's weights rest on, without its weights and without torch; None if not known.

    Raises
    ------
    ModelError
        If the file is missing or damaged.
    """
    from asecalc_ml.store.seen_frames import SeenFrames

    return _read_further(path, _FRAMES, SeenFrames.from_arrays, "training frames")


def read_uncertainty(path: Path) -> LastLayerUncertainty | None:
    """Read the last-layer uncertainty of a model; None if the file holds none.

    Raises
    ------
    ModelError
        If the file is missing or damaged, or holds another uncertainty than its card states.
    """
    from asecalc_ml.model.heads.last_layer import LastLayerUncertainty

    uncertainty = _read_further(path, _UNCERTAINTY, LastLayerUncertainty.from_arrays, "uncertainty")
    # numbers of features by quantity
    held = {name: len(factor) for name, factor in uncertainty.factors.items()} if uncertainty else {}
    stated = {name: one.n_features for name, one in read_card(path).uncertainty.items()}
    if held != stated:
        problem = f"the uncertainty in {path} is of {held or 'nothing'}, and its card states {stated}"
        raise _damaged(path, problem)
    return uncertainty


def _read_further(path: Path, prefix: str, make: Callable[[dict[str, np.ndarray]], T], what: str) -> T:
    """What a file holds beside its weights, made of the arrays whose names begin with a prefix."""
    from safetensors import SafetensorError, safe_open

    _header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return make({name.removeprefix(prefix): file.get_tensor(name) for name in names})
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, f"the {what} in {path} cannot be read ({error})") from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents_hash(path: Path) -> str:
    """SHA-256 of a model's weights and of the frames behind them; a note in the card does not change it."""
    return hashlib.sha256(_parts(path.read_bytes())[1]).hexdigest()


def _has_changed(path: Path, header: dict[str, str]) -> bool:
    """Return True if the file differs from its checksum; models without one count as unchanged."""
    if _CHECKSUM_KEY in header:
        return header[_CHECKSUM_KEY] != _checksum(path.read_bytes())
    if path.parent.resolve() != SHIPPED.resolve():
        return False
    hashes = {name: found for found, name in map(str.split, (SHIPPED / CHECKSUMS).read_text().splitlines())}
    return path.name in hashes and hashes[path.name] != file_hash(path)


def _check_cutoffs(path: Path, card: ModelCard, potential: Potential) -> None:
    """Refuse a card with other cutoffs than its architecture's: it decides what a graph is made of."""
    for what, said, built in (
        ("cutoff_A", card.cutoff_A, potential.cutoff),
        ("triplet_cutoff_A", card.triplet_cutoff_A, potential.triplet_cutoff),
        ("molecular_graph", card.molecular_graph, potential.molecular_graph),
    ):
        if said != built:
            problem = f"the model card in {path} has {what} {said}, its architecture {built}"
            raise _damaged(path, problem, value=said, allowed=[built])


def _with_checksum(content: bytes) -> bytes:
    """A safetensors file with its checksum; the library writes several entries in an order that changes."""
    header, data = _parts(content)
    header["__metadata__"][_CHECKSUM_KEY] = _checksum(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return len(text).to_bytes(8, "little") + text + data


def _checksum(content: bytes) -> str:
    """SHA-256 of a safetensors file's card, names, types and shapes of its tensors, and their bytes."""
    header, data = _parts(content)
    card = header.pop("__metadata__").get(_HEADER_KEY)
    return hashlib.sha256(json.dumps([card, header], sort_keys=True).encode() + data).hexdigest()


def _parts(content: bytes) -> tuple[dict, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def _damaged(path: Path, problem: str, **attributes: Any) -> ModelError:
    remedy = "the file is damaged: copy it again from where it came, or train the model anew"
    return ModelError(f"{problem};", name=str(path), remedy=remedy, **attributes)


def _header(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        remedy = f"a model is one file, NAME{SUFFIX}"
        raise ModelError(f"{path} is a folder;", name=str(path), remedy=remedy)
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except FileNotFoundError as error:
        raise ModelError(f"no model file {path}", name=str(path)) from error
    except PermissionError as error:
        problem = f"no permission to read {path}"
        raise ModelError(problem, name=str(path), remedy="ask its owner for it") from error
    except (SafetensorError, OSError) as error:
        raise _damaged(path, f"{path} cannot be read as a model ({error})") from error
