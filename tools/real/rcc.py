"""Reads Qt resource files (.rcc), in which gcompris-qt-data keeps its photographs."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

_ZLIB, _FOLDER, _ZSTD = 1, 2, 4


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    """The names and contents of a resource file, folder by folder.

    The header names three places: a tree of entries, their data, their names. An entry is a name's offset and flags;
    then a folder has the number and the first of its children, a file its language and the offset of its data.
    """
    content = path.read_bytes()
    magic, version, tree, data, names = struct.unpack_from(">4sIIII", content)
    if magic != b"qres":
        raise ValueError(f"{path}: no Qt resource file; give a .rcc")
    size = 14 if version < 2 else 22

    def name(offset: int) -> str:
        (length,) = struct.unpack_from(">H", content, names + offset)
        return content[names + offset + 6 : names + offset + 6 + 2 * length].decode("utf-16-be")

    def walk(entry: int, folder: str) -> Iterator[tuple[str, bytes]]:
        at = tree + size * entry
        named, flags = struct.unpack_from(">IH", content, at)
        own = folder + name(named) if entry else ""
        if flags & _FOLDER:
            count, first = struct.unpack_from(">II", content, at + 6)
            for child in range(first, first + count):
                yield from walk(child, own + "/" if own else "")
            return
        (offset,) = struct.unpack_from(">I", content, at + 10)
        (length,) = struct.unpack_from(">I", content, data + offset)
        body = content[data + offset + 4 : data + offset + 4 + length]
        if flags & _ZSTD:
            raise ValueError(f"{path}: {own} is compressed by zstd, which is not read here")
        # Four bytes of the length before compression stand first.
        yield own, zlib.decompress(body[4:]) if flags & _ZLIB else body

    return walk(0, "")
