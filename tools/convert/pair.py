"""The whole conversion: one checkpoint, two files."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import gguf
from gguf import LlamaFileType

from . import projector, text
from .checkpoint import Checkpoint
from .encode import DIRECT
from .metadata import Origin
from .model import Model, open_model
from .output import Output
from .problem import Problem, say
from .quantize import quantize, quantizer
from .recommend import Recommendation
from .templates import chat_template
from .tokenizer import read_vocabulary
from .vocabulary import Vocabulary
from .write import under_another_name, write_gguf


@dataclass(frozen=True)
class Job:
    checkpoint: Path
    out: Path
    name: str
    text_type: str
    tower_type: str
    tower: Path | None = None
    only: str | None = None
    quantizer: Path | None = None
    recommendation: Recommendation = Recommendation()
    adapters: tuple[Path, ...] = ()
    chat_template: Path | None = None
    metadata: Path | None = None

    @property
    def origin(self) -> Origin:
        return Origin(self.checkpoint, self.name, self.metadata)

    @property
    def text_file(self) -> Path:
        return self.out / f"{self.name}-{self.text_type.upper()}.gguf"

    @property
    def projector_file(self) -> Path:
        return self.out / f"mmproj-{self.name}-{self.tower_type.upper()}.gguf"


def convert(job: Job) -> list[Path]:
    """Writes the files of `job`. Everything that can be wrong with the checkpoint is found before a byte is written."""
    if "/" in job.name or not job.name:
        raise Problem(f"--name {job.name!r} cannot be part of a file's name")
    job.origin.check()
    checkpoint, model = open_model(job.checkpoint, job.tower, job.adapters)
    vocabulary = _vocabulary(job, checkpoint, model) if job.only != "mmproj" else None
    command = quantizer(job.quantizer) if vocabulary is not None and job.text_type not in DIRECT else []
    text_outputs = text.outputs(model) if job.only != "mmproj" else []
    base, file_type = DIRECT[job.tower_type]
    tower_outputs = projector.outputs(model, base) if job.only != "text" else []

    written = []
    if vocabulary is not None:
        vocabulary_rows = text_outputs[0].shape[0]
        cut = vocabulary.fit(vocabulary_rows)
        if cut:
            say(f"{cut} tokens have no row among the {vocabulary_rows} token vectors and are left out")
        _write_text(job, model, vocabulary, text_outputs, command)
        written.append(job.text_file)
    if job.only != "text":
        with under_another_name(job.projector_file) as part:
            writer = _writer(job, "clip", "mmproj", file_type, tower_outputs)
            projector.write_metadata(writer, model, base)
            job.recommendation.write(writer)
            write_gguf(part, writer, tower_outputs, base)
        written.append(job.projector_file)
    for path in written:
        say(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return written


def _vocabulary(job: Job, checkpoint: Checkpoint, model: Model) -> Vocabulary:
    vocabulary = read_vocabulary(checkpoint, model.text)
    vocabulary.chat_template = chat_template(checkpoint, model, vocabulary, job.chat_template)
    if len(set(vocabulary.tokens)) != len(vocabulary.tokens):
        twice = next(token for token in vocabulary.tokens if vocabulary.tokens.count(token) > 1)
        raise Problem(f"{checkpoint.folder}: the tokenizer has the token {twice!r} twice")
    return vocabulary


def _writer(job: Job, arch: str, kind: str, file_type: LlamaFileType, outputs: list[Output]) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path=None, arch=arch)
    writer.add_type(kind)
    job.origin.write(writer, outputs)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    return writer


def _write_text(job: Job, model: Model, vocabulary: Vocabulary, outputs: list[Output], command: list[str]) -> None:
    direct = job.text_type in DIRECT
    # A file for the quantiser keeps the type that the checkpoint holds.
    stored = model.text_tensors.sources["embed_tokens.weight"].dtype.lower()
    base, file_type = DIRECT[job.text_type if direct else stored if stored in DIRECT else "f32"]
    with ExitStack() as files:
        part = files.enter_context(under_another_name(job.text_file))
        whole = part if direct else part.with_name(part.name + ".whole")
        if not direct:
            files.callback(whole.unlink, missing_ok=True)
        writer = _writer(job, model.text.arch, "model", file_type, outputs)
        text.write_metadata(writer, model.text, vocabulary)
        write_gguf(whole, writer, outputs, base)
        if not direct:
            quantize(whole, part, job.text_type, command)


