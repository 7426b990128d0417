"""Making a model's other forms in processes of their own: what that takes, some 400 MiB, goes with them."""

import json
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
    """
    said = _run("nearvote.embedding.onnx_export", files.name, str(files.folder), files.revision, str(folder))
    if not_packed := json.loads(said)["not_packed"]:
        _log.warning("export_not_packed", error=not_packed, next="windows are filled up to the longest")


def quantize_apart(model: Path, small: Path) -> None:
    """Writes a graph's version in 8 bits.

    Args:
        model: The graph.
        small: Where to.

    Raises:
        ExportFailed: It can't be done, or what it takes is not installed.
    """
    _run("nearvote.embedding.onnx_int8", str(model), str(small))


def _run(module: str, *arguments: str) -> str:
    """The last line that a program of ours printed."""
    done = run_apart(module, *arguments)
    if done.returncode:
        raise ExportFailed(_last_line(done.stderr) or f"the process ended with {done.returncode}")
    return _last_line(done.stdout)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[-1]
