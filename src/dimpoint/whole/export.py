"""`dimpoint export --whole`: one ONNX file that takes raw frames and returns targets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from dimpoint.atomic import replacing
from dimpoint.errors import ConfigError, MissingExtraError, ModelFileError, one_line
from dimpoint.model.files import resolve_model
from dimpoint.model.onnx_file import import_runtime, read_meta
from dimpoint.model.record import ModelMeta

Counts = Literal["uint8", "uint16"]


def export_whole(
    model: str | Path, out: Path, *, counts: Counts = "uint16", threshold: float | None = None
) -> ModelMeta:
    """Write one ONNX file that takes raw frames and returns their targets.

    The graph has the inputs `frame`, (H, W) uint8 or uint16 of any size, and `threshold`, (1,) float32, which
    is optional, and the output `targets`, (N, 3) float32: x, y in pixels of the frame and score, best first.

    Parameters
    ----------
    model : str or path
        A shipped model's name, a model file or a training run's folder.
    out : path
        The file to write; it is not changed if writing fails.
    counts : {"uint16", "uint8"}
        Type of the frames. With `uint16`, a frame whose counts are all below 256 is treated as 8-bit.
        Default: `uint16`.
    threshold : float, optional
        Default of the input `threshold`. Default: the model's own. With another one, the scores in the record
        are removed, which are of the model's own.

    Returns
    -------
    ModelMeta
        The record of the model.

    Raises
    ------
    MissingExtraError
        If the package onnx is not installed.
    ConfigError
        For another suffix than .onnx, or a threshold outside 0..1.
    ModelFileError
        If the model cannot be exported this way; the message gives the reason.
    """
    if out.suffix != ".onnx":
        raise ConfigError(f"{out}: --whole writes an .onnx file")
    if find_spec("onnx") is None:
        raise MissingExtraError("dimpoint export --whole", "onnx", "export")
    source = resolve_model(model)
    if out.exists() and out.samefile(source):
        raise ConfigError(f"{out}: this is the model itself; choose another file")
    with _as_onnx(source) as file:
        meta = read_meta(file)
        if threshold is not None:
            meta = meta.model_copy(update={"decode": meta.decode.at(threshold), "scores": {}})
        check(meta, source)
        content = _content(file, meta, counts)
    _try(content, out)
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    return meta


@contextmanager
def _as_onnx(source: Path) -> Iterator[Path]:
    """The model as an ONNX file; safetensors weights are exported to a temporary file, which needs torch."""
    if source.suffix.lower() != ".safetensors":
        yield source
        return
    from dimpoint.api import export

    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(source, file)
        yield file


def _content(file: Path, meta: ModelMeta, counts: Counts) -> bytes:
    import onnx

    from dimpoint.whole.compose import compose

    model = compose(onnx.load(file), meta, counts)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def check(meta: ModelMeta, source: Path) -> None:
    """Raise ModelFileError, with the reason, for a model that cannot be exported this way."""
    refused = None
    if meta.input.fit is not None:
        refused = (
            f"it fits frames into {meta.input.fit[0]}x{meta.input.fit[1]} by a warp that rounds counts "
            "(input.fit), which ONNX's operators cannot reproduce"
        )
    elif meta.decode.kind == "components":
        refused = "its targets are the connected regions of a probability map (decode.kind components)"
    if refused:
        raise ModelFileError(f"{source}: not exported whole: {refused}; export it without --whole")


def _try(content: bytes, out: Path) -> None:
    """Raise ModelFileError unless ONNX Runtime can load the graph."""
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # otherwise it warns of every input with a default
    try:
        runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no common base
        raise ModelFileError(f"{out}: not written: {one_line(error)}") from None
