"""Properties of frames as labels of targets: taken from the file's names and units once, and checked."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from asecalc_ml.config.options import Options
from asecalc_ml.config.suggestions import nearest_name
from asecalc_ml.errors import ConfigError, DatasetError
from asecalc_ml.plugins import names
from asecalc_ml.potentials.datasets.labels import LABELS, label_of, with_label
from asecalc_ml.targets import Quantity, registered_target
from asecalc_ml.units import conversion, number_with_unit

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.potentials.datasets.options import DatasetOptions

#: Difference of components that should be equal by symmetry, in units of the largest, that is no rounding.
ASYMMETRY = 1e-3


#: Frames of which it is checked whether tensors are in the frame of the positions.
FRAMES_TURNED = 2000

#: Frames whose properties a message lists.
FRAMES_NAMED = 100


class PropertySource(Options):
    """Where a file has the values of a target."""

    key: str | None = Field(None, description="name in each frame's info; empty: the target's name")
    unit: str | None = Field(None, description="unit of the file's values; empty: the target's unit")
    zero: str | None = Field(
        None,
        description="what energies are relative to, such as 'free atoms' or 'separated nuclei and electrons'",
    )


def factors(sources: Mapping[str, PropertySource]) -> dict[str, float]:
    """Factor from the file's unit to the target's, for each target.

    Raises
    ------
    ConfigError
        If a unit is not one of the target's quantity, or is given for a name that is no registered target.
    """
    return {name: _factor(name, source.unit) for name, source in sources.items()}


def _factor(name: str, unit: str | None) -> float:
    if unit is None:
        return 1.0
    if name not in names("targets"):
        raise ConfigError(
            f"properties.{name}.unit is {unit!r}, and {name} is no registered target with a unit;",
            name=f"properties.{name}.unit",
            value=unit,
            remedy=f"leave the unit out and give it as target: {{scalar: {{name: {name}, unit: {unit}}}}}",
        )
    target = registered_target(name)
    if target.quantity is None:
        return 1.0
    try:
        return conversion(target.quantity, unit, target.unit)
    except ConfigError as error:
        raise error.at(f"properties.{name}.unit") from None


def take_properties(
    atoms: Atoms, sources: Mapping[str, PropertySource], factor: Mapping[str, float], where: str
) -> None:
    """Put the values of targets into a frame's info, under the targets' names and in their units.

    A frame that lacks what a key names has no value, even if it has another under the target's name.

    Raises
    ------
    DatasetError
        For a value that is no number.
    """
    values = {name: atoms.info.get(source.key or name) for name, source in sources.items()}
    for name, value in values.items():
        atoms.info.pop(name, None)
        if value is not None:
            atoms.info[name] = _numbers(value, f"{where}: {sources[name].key or name}", name) * factor[name]


def check_properties(
    located: Mapping[str, Atoms], quantities: Sequence[Quantity], source: DatasetOptions, every: bool = True
) -> None:
    """Make labels of quantities arrays of their shape, and refuse what would poison a training.

    Parameters
    ----------
    located : mapping
        Frames by file and number in it; their info is changed.
    quantities : sequence of Quantity
    source : DatasetOptions
        The reader of the frames.
    every : bool
        Refuse data in which one of the quantities is missing, and not only data that have none of them.

    Raises
    ------
    DatasetError
        If no frame has a label, its unit is not known, or one has another shape, is not finite, or is not
        symmetric.
    """
    from asecalc_ml.potentials.datasets.label_checks.tensor_frames import check_tensor_frame

    frames = frames_of(located)
    in_memory = isinstance(frames, list)
    if in_memory:
        absent = [one for one in quantities if not with_label(frames, one.name)]
        known = [one for one in quantities if source.knows_unit(one.name)]
    else:  # arrays, of which a reader has made values in the units that it states
        counts, units = frames.counts(), frames.units
        absent = [one for one in quantities if not counts.get(one.name)]
        known = [one for one in quantities if units.get(one.name, _open_unit(one)) == one.unit]
    if absent and (every or len(absent) == len(quantities)):
        raise _absent(absent[0], list(itertools.islice(frames, FRAMES_NAMED)), source)
    for quantity in (one for one in quantities if one not in absent):
        if quantity not in known:
            raise _of_another_unit(quantity, getattr(frames, "units", {}).get(quantity.name), source)
        if not in_memory and (shape := frames.values(quantity.name).shape[1:]) != quantity.shape:
            raise _of_another_shape(quantity, shape, source.place)
    if in_memory:
        _make_arrays(located, quantities)
    for quantity in (one for one in quantities if one.shape and one not in absent):
        check_tensor_frame(_some(located), quantity.name)


def _make_arrays(located: Mapping[str, Atoms], quantities: Sequence[Quantity]) -> None:
    """Make labels in the frames' info numbers or arrays of the quantities' shapes."""
    for where, atoms in located.items():
        for quantity in quantities:
            value = label_of(atoms, quantity.name)
            if value is not None:
                atoms.info[quantity.name] = _checked(value, quantity, where)


def _some(located: Mapping[str, Atoms]) -> dict[str, Atoms]:
    """At most so many frames, from all parts of the data, that are looked at one by one."""
    places = list(located)
    return {place: located[place] for place in places[:: -(-len(places) // FRAMES_TURNED)]}


def frames_of(located: Mapping[str, Atoms]) -> Any:
    """The frames of a mapping by place: a list, or the arrays that they are made of where there are any.

    Returns
    -------
    sequence of Atoms
        A list, or ``located.frames``, which makes an Atoms object when it is asked for and has the values of
        all frames in ``counts()`` and ``units``.
    """
    frames = getattr(located, "frames", None)
    return list(located.values()) if frames is None else frames


def _open_unit(quantity: Quantity) -> str | None:
    """The unit of values that state none: that of a target of any unit, and unknown for others."""
    return None if quantity.name in names("targets") else quantity.unit


def _of_another_unit(quantity: Quantity, unit: str | None, source: DatasetOptions) -> DatasetError:
    if unit is None:
        return DatasetError(
            f"{source.place}: the frames have {quantity.name}, and its unit is not known.",
            name=quantity.name,
            allowed=[quantity.unit],
            remedy=source.naming_of(quantity.name, quantity.unit)
            or "Give it with the reader's option `units`",
        )
    return DatasetError(
        f"{source.place}: {quantity.name} is in {unit or 'no unit'}, and the target in "
        f"{quantity.unit or 'no unit'}.",
        name=quantity.name,
        value=unit,
        allowed=[quantity.unit],
        remedy="Correct the reader's `units`, or choose a target of this unit",
    )


def _checked(value: Any, quantity: Quantity, where: str) -> Any:
    import numpy as np

    numbers = np.asarray(_numbers(value, f"{where}: {quantity.name}", quantity.name))
    if numbers.size != len(quantity.components):
        raise _of_another_shape(quantity, numbers.shape, where)
    numbers = numbers.reshape(quantity.shape)
    if not np.isfinite(numbers).all():
        raise DatasetError(
            f"{where}: {quantity.name} not finite.",
            name=quantity.name,
            remedy="Leave the frame out with `frames`, or label it anew.",
        )
    _check_symmetric(numbers, quantity, where)
    return numbers if quantity.shape else float(numbers)


def _of_another_shape(quantity: Quantity, shape: tuple[int, ...], where: str) -> DatasetError:
    return DatasetError(
        f"{where}: {quantity.name} of shape {shape}, expected {quantity.shape or 'one number'}",
        name=quantity.name,
        value=shape,
        allowed=[quantity.shape],
    )


def _check_symmetric(numbers: Any, quantity: Quantity, where: str) -> None:
    import numpy as np

    for order in itertools.permutations(range(numbers.ndim)):
        difference = np.abs(numbers - numbers.transpose(order)).max()
        if difference > ASYMMETRY * np.abs(numbers).max():
            raise DatasetError(
                f"{where}: {quantity.name} is not symmetric: components that should be equal differ by "
                f"{number_with_unit(f'{difference:.3g}', quantity.unit)}.",
                name=quantity.name,
                value=float(difference),
                remedy=f"Give all {numbers.size} components, in the order {', '.join(quantity.components)}",
            )


def _numbers(value: Any, what: str, name: str) -> Any:
    """A value as float64; a bool is a word without a number, which reads as True."""
    import numpy as np

    try:
        if np.asarray(value).dtype.kind == "b":
            raise TypeError
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DatasetError(
            f"{what} is not numbers: {value!r}", name=name, value=value, allowed="numbers"
        ) from None


def _absent(quantity: Quantity, frames: Sequence[Atoms], source: DatasetOptions) -> DatasetError:
    known = sorted({key for atoms in frames for key in atoms.info} - {"charge", "spin"})
    near = nearest_name(quantity.name, known)
    if quantity.name in LABELS:
        advice = [source.remedy(quantity.name, frames)]
    else:
        advice = [
            f"The frames have {', '.join(known)}." if known else "",
            f"Did you mean '{near}'?" if near else "",
            source.naming_of(quantity.name, quantity.unit),
        ]
    return DatasetError(
        f"{source.place}: no frame has {quantity.name}.",
        name=quantity.name,
        allowed=known,
        remedy=" ".join(filter(None, advice)) or "Choose a target that the data have",
    )
