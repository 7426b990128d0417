"""Choosing what serves a model."""

from pathlib import Path
from typing import Literal

import structlog

from nearvote.embedding.encoder import Encoder
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.embedding.models import ModelFiles, find_model
from nearvote.embedding.onnx_encoder import OnnxEncoder, usable_cores
from nearvote.errors import InvalidSetting, ModelNotFound

Device = Literal["auto", "cpu", "cuda"]

# Goes up when the graph or the files of an export change, so that older ones are made anew.
_EXPORT_FORMAT = 2

_log = structlog.get_logger(__name__)


def load_encoder(model: str, revision: str | None, device: Device, cache_dir: Path, threads: int | None) -> Encoder:
    """Loads a model: exported to ONNX on a CPU, by sentence-transformers on CUDA.

    Args:
        model: Hub id, folder, or `hashing` for the encoder without a model.
        revision: Commit of a hub id.
        device: `auto` takes CUDA where a device and a CUDA build of torch are at hand.
        cache_dir: Where exports are kept, by the hash of the model's files.
        threads: Threads of one computation on a CPU; all usable cores when None.

    Returns:
        The encoder, checked against the original on probe texts.

    Raises:
        ModelNotFound: The model is not at hand, can't be loaded, or what it takes to load it is not installed.
        InvalidSetting: CUDA is asked for and there is none.
        WeightsMismatch: The packaged model's weights are not those that they should be.
    """
    if model == "hashing":
        return HashingEncoder()
    files = find_model(model, revision)
    folder = cache_dir / "models" / f"{files.fingerprint}-{_EXPORT_FORMAT}"
    cuda = device != "cpu" and _has_cuda()
    if device == "cuda" and not cuda:
        raise InvalidSetting("there is no CUDA device here, or torch is not a CUDA build: use `cpu`", field="device")
    if cuda:
        return _load_torch(files, "cuda", folder)
    threads = threads or usable_cores()
    if (folder / "export.json").is_file():
        try:
            return OnnxEncoder(folder, threads)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a cache, it can be made anew
            _log.warning("export_unusable", folder=str(folder), error=str(error), next="exporting again")
    _log.info("exporting_model", model=files.name, revision=files.revision[:12], note="once for these weights")
    try:
        from nearvote.embedding.onnx_export import export  # noqa: PLC0415 - imports torch, which a warm start must not

        export(files, folder)
        return OnnxEncoder(folder, threads)
    except ImportError as error:
        raise ModelNotFound(
            f"exporting a model takes more packages: pip install 'nearvote[models]' ({error})"
        ) from error
    except Exception as error:  # noqa: BLE001 - whatever the exporter can't do, the original can
        _log.warning("export_failed", error=str(error), next="serving by sentence-transformers, which is slower")
        return _load_torch(files, "cpu", folder)


def _load_torch(files: ModelFiles, device: str, folder: Path) -> Encoder:
    try:
        from nearvote.embedding.torch_encoder import TorchEncoder  # noqa: PLC0415 - imports torch
    except ImportError as error:
        raise ModelNotFound(f"this takes more packages: pip install 'nearvote[models]' ({error})") from error
    try:
        return TorchEncoder(files, device, folder)
    except Exception as error:
        raise ModelNotFound(f"{files.folder} can't be loaded as a sentence-transformers model: {error}") from error


def _has_cuda() -> bool:
    """Whether CUDA can be used. The device file is looked at first: importing torch to ask takes seconds."""
    if not Path("/dev/nvidiactl").exists():
        return False
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return False
    return bool(torch.cuda.is_available())
