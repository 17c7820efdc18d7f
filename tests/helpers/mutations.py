"""Random damage to files: bytes of any file, and the contents of formats that are containers.

Every mutation follows from a text, so that a failure can be repeated.
"""

import io
import json
import random
import re
import string
import zipfile
from collections.abc import Callable, MutableMapping, MutableSequence
from typing import Any

NUMBER = rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?"
NUMBERS = (
    b"nan", b"NaN", b"inf", b"-Infinity", b"-1", b"0", b"1e308", b"-1e999", b"5e-324", b"1000000000000",
    b"99999999999999999999999", b"1.5", b"", b"abc", b"true", b"1_0", b"0x10", b"1,5", b"\xd9\xa3",
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 1.5, 10**12, 10**30, 1e308, float("nan"), float("inf"), "", "text", "\x00", "1",
    [], {}, [[]], [None], {"a": None}, ["text"], [1.0, 2.0], {"text": {"text": [0]}},
)  # fmt: skip
BAD_TEXT = (b"\xff", b"\xfe\xff", b"\xc3\x28", b"\xe9", b"\x00", b"\xed\xa0\x80", b"\x85", b"\xe2\x80\xa8")


def mutated(original: bytes, suffix: str, seed: str) -> bytes:
    """Another content, which follows from the seed.

    Parameters
    ----------
    original : bytes
    suffix : str
        Of the file's name; formats that are known are also damaged inside.
    seed : str
    """
    rng = random.Random(seed)
    for _ in range(20):
        content = original
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            content = _one(content, suffix, rng)
        if content != original:
            return content
    return b""


def _one(content: bytes, suffix: str, rng: random.Random) -> bytes:
    inside = INSIDE.get(suffix)
    if inside is not None and rng.random() < 0.5:
        try:
            return inside(content, rng)
        except Exception:  # what came before has damaged the container
            return rng.choice(BYTES)(content, rng)
    binary = suffix in (".npz", ".safetensors", ".h5", ".h5md", ".traj", ".ckpt")
    return rng.choice(BYTES if binary else BYTES + LINES)(content, rng)


# ---------------------------------------------------------------------- bytes


def _place(content: bytes, rng: random.Random) -> int:
    """Anywhere, but more often near the beginning, where headers are."""
    size = len(content)
    return rng.randrange(min(size, 400) if rng.random() < 0.3 else size) if size else 0


def _chunk(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = _place(content, rng)
    return start, min(len(content), start + rng.choice((1, 1, 2, 4, 8, 30, 200)))


def _flip(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return content
    k = _place(content, rng)
    return content[:k] + bytes([content[k] ^ (1 << rng.randrange(8))]) + content[k + 1 :]


def _replace(content: bytes, rng: random.Random) -> bytes:
    start, end = _chunk(content, rng)
    return content[:start] + rng.randbytes(end - start) + content[end:]


def _delete(content: bytes, rng: random.Random) -> bytes:
    start, end = _chunk(content, rng)
    return content[:start] + content[end:]


def _insert(content: bytes, rng: random.Random) -> bytes:
    start, end = _chunk(content, rng)
    return content[:start] + rng.randbytes(end - start) + content[start:]


def _double(content: bytes, rng: random.Random) -> bytes:
    start, end = _chunk(content, rng)
    return content[:end] + content[start:]


def _zero(content: bytes, rng: random.Random) -> bytes:
    start, end = _chunk(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _bad_text(content: bytes, rng: random.Random) -> bytes:
    k = _place(content, rng)
    return content[:k] + rng.choice(BAD_TEXT) + content[k + rng.randrange(2) :]


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _flip, _replace, _delete, _insert, _double, _zero, _cut, _bad_text,
)  # fmt: skip


# ---------------------------------------------------------------------- text


def _lines(change: Callable[[list[bytes], random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    def changed(content: bytes, rng: random.Random) -> bytes:
        lines = content.splitlines(keepends=True)
        if lines:
            change(lines, rng)
        return b"".join(lines)

    return changed


def _swap(lines: list[bytes], rng: random.Random) -> None:
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]


def _repeat(lines: list[bytes], rng: random.Random) -> None:
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))


def _remove(lines: list[bytes], rng: random.Random) -> None:
    del lines[rng.randrange(len(lines))]


def _indent(lines: list[bytes], rng: random.Random) -> None:
    k = rng.randrange(len(lines))
    lines[k] = rng.choice((b"  ", b"\t", b"    ", b"- ")) + lines[k]


def _word(pattern: bytes, others: Callable[[bytes, random.Random], bytes]) -> Callable:
    def changed(content: bytes, rng: random.Random) -> bytes:
        found = list(re.finditer(pattern, content))
        if not found:
            return content
        one = rng.choice(found)
        return content[: one.start()] + others(content, rng) + content[one.end() :]

    return changed


def _other_word(content: bytes, rng: random.Random) -> bytes:
    words = content.split()
    return rng.choice(words) if words and rng.random() < 0.5 else rng.choice(string.ascii_letters).encode()


_number = _word(NUMBER, lambda content, rng: rng.choice(NUMBERS))
LINES = (
    _lines(_swap), _lines(_repeat), _lines(_remove), _lines(_indent), _number, _number, _number,
    _word(rb"[\w.-]+", _other_word), _word(rb"[\w.-]+", _other_word),
)  # fmt: skip


# ---------------------------------------------------------------------- trees, as JSON and YAML hold them


def change_tree(tree: Any, rng: random.Random) -> Any:
    """Change one value, key or list somewhere in nested mappings and lists."""
    places = list(_places(tree))
    if not places:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    how = rng.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, MutableMapping):
        name = str(key)
        k = rng.randrange(len(name) + 1)
        holder[name[:k] + rng.choice(string.ascii_letters) + name[k + 1 :]] = holder.pop(key)
    elif how == 2 and isinstance(holder, MutableSequence):
        holder.insert(key, rng.choice([*holder, *VALUES]))
    elif how == 3:
        holder[key] = [holder[key]]
    elif how == 4:
        holder[key] = _node(tree, rng)
    else:
        holder[key] = rng.choice(VALUES)
    return tree


def _places(tree: Any) -> Any:
    keys = tree if isinstance(tree, MutableMapping) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


def _node(tree: Any, rng: random.Random) -> Any:
    holder, key = rng.choice(list(_places(tree)))
    return json.loads(json.dumps(holder[key], default=str))


def _json(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(change_tree(json.loads(content), rng)).encode()


def _json_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines()
    k = rng.randrange(len(lines))
    lines[k] = _json(lines[k], rng)
    return b"\n".join(lines) + b"\n"


def _yaml(content: bytes, rng: random.Random) -> bytes:
    from ruamel.yaml import YAML

    yaml, text = YAML(typ="safe"), io.StringIO()
    yaml.dump(change_tree(yaml.load(content.decode()), rng), text)
    return text.getvalue().encode()


# ---------------------------------------------------------------------- containers


def _npz(content: bytes, rng: random.Random) -> bytes:
    """An archive that is whole, with one member changed: its bytes, its shape or type, or not there."""
    import numpy as np

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    how = rng.randrange(4)
    array = np.load(io.BytesIO(members[name]), allow_pickle=False)
    if how == 0:
        del members[name]
    elif how == 1:
        members[name] = rng.choice(BYTES)(members[name], rng)
    elif array.dtype.kind == "U":  # a text, such as a checkpoint's values
        members[name] = _npy(np.array(_json(str(array).encode(), rng).decode()))
    else:
        members[name] = _npy(_changed_array(array, rng))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return target.getvalue()


def _npy(array: Any) -> bytes:
    import numpy as np

    target = io.BytesIO()
    np.save(target, array, allow_pickle=False)
    return target.getvalue()


def _changed_array(array: Any, rng: random.Random) -> Any:
    import numpy as np

    changes = (
        lambda: array[:-1] if array.ndim else array[None],
        lambda: array[None],
        array.ravel,
        lambda: array.astype(np.float32),
        lambda: array.astype(str),
        lambda: array * np.nan,
        lambda: array * 1e300,
        lambda: -array,
        lambda: array.astype(complex),
        lambda: np.array(1.0),
        lambda: np.empty((0, 3)),
        lambda: array.T,
    )
    with np.errstate(all="ignore"):
        return rng.choice(changes)()


def _safetensors(content: bytes, rng: random.Random) -> bytes:
    """A file that is whole, with its header, its card or one of its numbers changed."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    how = rng.randrange(3)
    if how == 0:
        card = json.loads(header["__metadata__"]["card"])
        header["__metadata__"]["card"] = json.dumps(change_tree(card, rng))
    elif how == 1:
        header = change_tree(header, rng)
    else:
        data = _flip(data, rng)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def _hdf5(content: bytes, rng: random.Random) -> bytes:
    """A file that is whole, with one dataset gone, or of another shape or type."""
    import h5py

    target = io.BytesIO(content)
    with h5py.File(target, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        old = file[name]
        if isinstance(old, h5py.Dataset) and old.dtype.kind in "if" and rng.random() < 0.7:
            array = _changed_array(old[()], rng)
            del file[name]
            file[name] = array.astype("S") if array.dtype.kind == "U" else array
        elif list(old.attrs) and rng.random() < 0.5:
            old.attrs[rng.choice(list(old.attrs))] = rng.choice((1.5, "text", [1, 2]))
        else:
            del file[name]
    return target.getvalue()


INSIDE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": _json,
    ".jsonl": _json_line,
    ".yaml": _yaml,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".h5": _hdf5,
    ".h5md": _hdf5,
}
