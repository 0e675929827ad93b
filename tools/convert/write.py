"""A GGUF file that has its name only once it is whole."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from .encode import Streamed, byte_shape, type_of
from .output import Output
from .problem import Problem


@contextmanager
def under_another_name(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` that becomes `path` on success and vanishes on failure."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise Problem(f"{path} cannot be written ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)


def write_gguf(path: Path, writer: gguf.GGUFWriter, outputs: list[Output], base: Type) -> None:
    """Header, then tensor by tensor; `writer` has the metadata already."""
    kinds = [type_of(output, base) for output in outputs]
    for output, kind in zip(outputs, kinds):
        shape = byte_shape(output.shape, kind)
        writer.add_tensor_info(output.name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=kind)
    writer.write_header_to_file(path)
    try:
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for output, kind in zip(outputs, kinds):
            writer.write_tensor_data(Streamed(output, kind))
    finally:
        writer.close()
