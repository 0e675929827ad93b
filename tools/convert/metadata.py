"""Metadata that publishers expect in a file's header: base name, size, licence, base models, addresses.

gguf's own reader finds them in the folder's model card (README.md), its configuration and the folder's name; a file of
`general.*` keys overrides what it finds, as with llama.cpp's converter.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from .output import Output
from .problem import Problem


@dataclass(frozen=True)
class Origin:
    """`override` is the file given with --metadata; `name` goes before the name that is found."""

    folder: Path
    name: str
    override: Path | None = None

    def check(self) -> None:
        """Raises Problem for a file of keys that cannot be read."""
        if self.override is None:
            return
        try:
            content = json.loads(self.override.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Problem(f"--metadata {self.override} cannot be read as JSON ({error})") from None
        if not isinstance(content, dict) or not all(str(key).startswith("general.") for key in content):
            raise Problem(f"--metadata {self.override} holds other keys than general.*")

    def write(self, writer: gguf.GGUFWriter, outputs: list[Output]) -> None:
        count = sum(int(np.prod(output.shape, dtype=np.int64)) for output in outputs)
        found = gguf.Metadata.load(self.override, self.folder, self.name, count)
        found.name = self.name
        if found.size_label is None and count:
            found.size_label = gguf.size_label(count, 0, 0, 0)
        # Advice on sampling is no part of what is converted.
        for field in vars(found):
            if field.startswith("sampling_"):
                setattr(found, field, None)
        found.set_gguf_meta_model(writer)
