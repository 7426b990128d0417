"""Making a model's other forms in processes of their own: what that takes, some 400 MiB, goes with them."""

from pathlib import Path

import structlog

from nearvote.apart import run_apart
from nearvote.embedding.models import ModelFiles
from nearvote.startup_errors import ExportFailed

_log = structlog.get_logger(__name__)


def export_apart(files: ModelFiles, folder: Path) -> None:
    """Exports a model, checked against the original.

    The export appears in `folder` whole or not at all.

    Args:
        files: The model.
        folder: Where to; replaced when it exists.

    Raises:
        ExportFailed: The model can't be exported, or what it takes is not installed.
        Interrupted: It was interrupted.
    """
    told = (files.name, str(files.folder), files.revision, str(folder))
    if not_packed := run_apart("nearvote.embedding.onnx_export:export_to", *told, failure=ExportFailed):
        _log.warning("export_not_packed", error=not_packed, next="windows are filled up to the longest")


def quantize_apart(model: Path, small: Path) -> None:
    """Writes a graph's version in 8 bits.

    Args:
        model: The graph.
        small: Where to.

    Raises:
        ExportFailed: It can't be done, or what it takes is not installed.
        Interrupted: It was interrupted.
    """
    run_apart("nearvote.embedding.onnx_int8:quantize", str(model), str(small), failure=ExportFailed)
