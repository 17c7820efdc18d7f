"""The bytes of an HDF5 file that only ever grows, and is whole at every moment.

The HDF5 library overwrites its indices in place, in an order of its own: a file whose writer is killed may be
lost, and one that is open for writing cannot be opened beside it. Here nothing that a reader may hold is
ever overwritten. Data and new copies of the small tables that lead to them are appended, and then the
superblock, 100 bytes at the beginning, is replaced in one write. Before it a reader finds the old frames,
after it the new ones.

Only what that takes is encoded, by the "HDF5 File Format Specification Version 3.0" (The HDF Group):

====================== =========================
superblock             section II.A, version 1
chunk index            III.A.1, version 1 B-tree
strings                III.E, global heap
object headers         IV.A.1.a, version 1
link info, link        IV.A.2.c, IV.A.2.g
dataspace, datatype    IV.A.2.b, IV.A.2.d
fill value, layout     IV.A.2.f, IV.A.2.i
group info, attribute  IV.A.2.k, IV.A.2.m
====================== =========================

All numbers are little-endian, offsets and lengths have 8 bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

SUPERBLOCK_BYTES = 100
UNDEFINED = 0xFFFF_FFFF_FFFF_FFFF
UNLIMITED = UNDEFINED
BRANCHING = 8  # half of a B-tree node's children: a commit writes the last node of each level anew

FLOAT64 = struct.pack("<B3sIHHBBBBI", 0x11, b"\x20\x3f\x00", 8, 0, 64, 52, 11, 0, 52, 1023)
INT64 = struct.pack("<B3sIHH", 0x10, b"\x08\x00\x00", 8, 0, 64)
_CHARACTER = struct.pack("<B3sI", 0x13, b"\x00\x00\x00", 1)
STRING = struct.pack("<B3sI", 0x19, b"\x01\x01\x00", 16) + _CHARACTER  # of any length, UTF-8


def padded(data: bytes) -> bytes:
    """Bytes filled up to a multiple of 8."""
    return data + bytes(-len(data) % 8)


def superblock(root: int, end: int) -> bytes:
    """The beginning of the file: where its root group stands, and how many bytes belong to it."""
    sizes = bytes([1, 0, 0, 0, 0, 8, 8, 0])  # versions; bytes of an offset and of a length
    nodes = struct.pack("<HHIHH", 4, 16, 0, BRANCHING, 0)
    addresses = struct.pack("<QQQQ", 0, UNDEFINED, end, UNDEFINED)
    return b"\x89HDF\r\n\x1a\n" + sizes + nodes + addresses + struct.pack("<QQII16x", 0, root, 0, 0)


def object_header(messages: Iterable[tuple[int, bytes]], n_links: int = 1) -> bytes:
    """A group or a dataset: messages of a type and its content."""
    parts = [(kind, padded(content)) for kind, content in messages]
    body = b"".join(struct.pack("<HHB3x", kind, len(data), 0) + data for kind, data in parts)
    return struct.pack("<BxHII4x", 1, len(parts), n_links, len(body)) + body


def group(links: Mapping[str, int], attributes: Iterable[tuple[int, bytes]] = ()) -> bytes:
    """A group with hard links to the addresses of others."""
    link_info = struct.pack("<BBQQ", 0, 0, UNDEFINED, UNDEFINED)
    named = [
        (0x06, struct.pack("<BBB", 1, 0, len(name)) + name.encode() + struct.pack("<Q", address))
        for name, address in links.items()
    ]
    return object_header([(0x02, link_info), (0x0A, bytes(2)), *named, *attributes])


def dataspace(shape: tuple[int, ...], largest: tuple[int, ...] | None = None) -> bytes:
    """The shape of a dataset; of a single value where it is empty."""
    sizes = shape if largest is None else (*shape, *largest)
    return struct.pack(f"<BBB5x{len(sizes)}Q", 1, len(shape), largest is not None, *sizes)


def attribute(name: str, datatype: bytes, shape: tuple[int, ...], value: bytes) -> tuple[int, bytes]:
    """The message of an attribute."""
    parts = [name.encode() + b"\0", datatype, dataspace(shape)]
    sizes = struct.pack("<BxHHH", 1, *map(len, parts))
    return 0x0C, sizes + b"".join(map(padded, parts)) + value


def integers(name: str, *values: int) -> tuple[int, bytes]:
    """An attribute of whole numbers, a single one or several."""
    shape = (len(values),) if len(values) > 1 else ()
    return attribute(name, INT64, shape, struct.pack(f"<{len(values)}q", *values))


class StringHeap:
    """Strings of attributes: HDF5 keeps those of any length apart, in a global heap.

    Parameters
    ----------
    address : int
        Where :meth:`encoded` will be written.
    """

    def __init__(self, address: int):
        self._address = address
        self._strings: list[bytes] = []

    def attribute(self, name: str, *values: str) -> tuple[int, bytes]:
        """An attribute of one string, or of several."""
        references = b"".join(map(self._reference, values))
        return attribute(name, STRING, (len(values),) if len(values) > 1 else (), references)

    def _reference(self, text: str) -> bytes:
        self._strings.append(text.encode())
        return struct.pack("<IQI", len(self._strings[-1]), self._address, len(self._strings))

    def encoded(self) -> bytes:
        """The heap with all strings, of at least 4096 bytes as the format wants it."""
        objects = b"".join(
            struct.pack("<HH4xQ", number, 1, len(text)) + padded(text)
            for number, text in enumerate(self._strings, start=1)
        )
        size = max(4096, 16 + len(objects) + 16)
        free = size - 16 - len(objects)
        header = b"GCOL" + struct.pack("<B3xQ", 1, size)
        return header + objects + struct.pack("<HH4xQ", 0, 0, free) + bytes(free - 16)


def check_heap(content: bytes) -> None:
    """Refuse a heap of strings whose sizes are damaged: HDF5's library never returns from some of them.

    Parameters
    ----------
    content : bytes
        The beginning of a file, with its first heap.

    Raises
    ------
    ValueError
        If the objects do not fill the heap.
    """
    begin = content.find(b"GCOL")
    if begin < 0:
        return
    place = begin + 16
    end = begin + struct.unpack_from("<Q", content, begin + 8)[0]
    while place < min(end, len(content)):
        number, size = struct.unpack_from("<H6xQ", content, place)
        is_free = number == 0  # its size counts its header, that of a string does not
        place += max(16, size) if is_free else 16 + 8 * -(-size // 8)
    if place != end:
        raise ValueError("sizes in its heap of strings do not add up")


@dataclass(frozen=True)
class FixedDataset:
    """A dataset that is written once, in one piece at an address."""

    datatype: bytes
    shape: tuple[int, ...]
    address: int
    attributes: tuple[tuple[int, bytes], ...] = ()

    def header(self) -> bytes:
        """Its object header."""
        size = 8 * math.prod(self.shape)
        return _dataset(
            dataspace(self.shape),
            self.datatype,
            struct.pack("<BBQQ", 3, 1, self.address, size),
            self.attributes,
        )


@dataclass
class GrowingDataset:
    """A dataset whose rows come in chunks.

    Parameters
    ----------
    datatype : bytes
        :data:`FLOAT64` or :data:`INT64`.
    row : tuple of int
        Shape of one row.
    chunk_rows : int
    attributes : tuple
    n_links : int
        Number of names that it has in the file.
    """

    datatype: bytes
    row: tuple[int, ...]
    chunk_rows: int
    attributes: tuple[tuple[int, bytes], ...] = ()
    n_links: int = 1

    def __post_init__(self) -> None:
        self.chunk_bytes = 8 * self.chunk_rows * math.prod(self.row)
        self.index = ChunkIndex(self.chunk_rows, len(self.row) + 1, self.chunk_bytes)

    def header(self, n_rows: int, index: int) -> bytes:
        """Its object header, with so many rows and the index at an address."""
        chunk = (self.chunk_rows, *self.row, 8)
        layout = struct.pack(f"<BBBQ{len(chunk)}I", 3, 2, len(chunk), index, *chunk)
        space = dataspace((n_rows, *self.row), (UNLIMITED, *self.row))
        return _dataset(space, self.datatype, layout, self.attributes, self.n_links)


def _dataset(space: bytes, datatype: bytes, layout: bytes, attributes: Iterable, n_links: int = 1) -> bytes:
    fill_value = bytes([2, 3, 0, 0])  # version; allocated as it grows; nothing is filled in
    messages = [(0x01, space), (0x03, datatype), (0x05, fill_value), (0x08, layout), *attributes]
    return object_header(messages, n_links)


class ChunkIndex:
    """The B-tree of a dataset that only grows along its rows.

    Nodes that are full never change again. Those that are not, one in each level, are written anew.

    Parameters
    ----------
    chunk_rows, rank, chunk_bytes : int
        Rows of a chunk, dimensions of the dataset, and size of a chunk.
    """

    def __init__(self, chunk_rows: int, rank: int, chunk_bytes: int):
        self._rows, self._rank, self._bytes = chunk_rows, rank, chunk_bytes
        self._levels: list[list[tuple[int, int]]] = [[]]  # children of the last node: first chunk, address
        self._n_chunks = 0

    def append(self, address: int, write: Callable[[bytes], int]) -> None:
        """Add the next chunk; ``write`` appends a node that is full, and returns its address."""
        self._add(0, (self._n_chunks, address), write)
        self._n_chunks += 1

    def _add(self, level: int, child: tuple[int, int], write: Callable[[bytes], int]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        children, room = self._levels[level], 2 * BRANCHING - (level > 0)  # one place is for the unfinished
        if len(children) == room:
            self._add(level + 1, (children[0][0], write(self._node(level, children))), write)
            children.clear()
        children.append(child)

    def root(self, write: Callable[[bytes], int]) -> int:
        """Write the nodes that are not full; the address of the root."""
        below: list[tuple[int, int]] = []
        for level, children in enumerate(self._levels):
            node = [*children, *below]
            below = [(node[0][0], write(self._node(level, node)))]
        return below[0][1]

    def _node(self, level: int, children: list[tuple[int, int]]) -> bytes:
        header = b"TREE" + struct.pack("<BBHQQ", 1, level, len(children), UNDEFINED, UNDEFINED)
        entries = b"".join(self._key(first) + struct.pack("<Q", address) for first, address in children)
        size = 24 + 2 * BRANCHING * (self._key_bytes + 8) + self._key_bytes
        # the last key is that of the first chunk that is not below this node, as far as is known
        return (header + entries + self._key(self._n_chunks)).ljust(size, b"\0")

    @property
    def _key_bytes(self) -> int:
        return 8 + 8 * (self._rank + 1)

    def _key(self, chunk: int) -> bytes:
        return struct.pack(f"<IIQ{8 * self._rank}x", self._bytes, 0, chunk * self._rows)
