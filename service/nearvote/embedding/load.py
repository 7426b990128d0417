"""Choosing what serves a model."""

from pathlib import Path
from typing import Literal

import structlog

from nearvote.embedding.encoder import Encoder
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.embedding.models import ModelFiles, find_model
from nearvote.embedding.onnx_apart import export_apart
from nearvote.embedding.onnx_encoder import OnnxEncoder, Precision, usable_cores
from nearvote.embedding.onnx_quantize import LEAST_AGREEMENT, Agreement, Jury, known_agreement, quantize
from nearvote.embedding.scratch import clear_scratch
from nearvote.errors import Interrupted
from nearvote.startup_errors import InvalidSetting, ModelNotFound

Device = Literal["auto", "cpu", "cuda"]

# Goes up when the graph or the files of an export change, so that older ones are made anew.
_EXPORT_FORMAT = 6

_log = structlog.get_logger(__name__)


def load_encoder(
    model: str,
    revision: str | None,
    device: Device,
    cache_dir: Path,
    threads: int | None,
    precision: Precision = "fp32",
    jury: Jury | None = None,
) -> Encoder:
    """Loads a model: exported to ONNX on a CPU, by sentence-transformers on CUDA.

    Args:
        model: Hub id, folder, or `hashing` for the encoder without a model.
        revision: Commit of a hub id.
        device: `auto` takes CUDA where a device and a CUDA build of torch are at hand.
        cache_dir: Where exports are kept, by the hash of the model's files.
        threads: Threads of one computation on a CPU; all usable cores when None.
        precision: Of the weights on a CPU; int8 only where it agrees with full precision.
        jury: What that is told by, the first time.

    Returns:
        The encoder, checked against the original on probe texts.

    Raises:
        ModelNotFound: The model is not at hand, can't be loaded, or what it takes to load it is not installed.
        InvalidSetting: CUDA is asked for and there is none.
        WeightsMismatch: The packaged model's weights are not those that they should be.
        Interrupted: Making a form of the model was interrupted.
    """
    if model == "hashing":
        return HashingEncoder()
    files = find_model(model, revision)
    folder = cache_dir / "models" / f"{files.fingerprint}-{_EXPORT_FORMAT}"
    clear_scratch(folder.parent)
    cuda = device != "cpu" and _has_cuda()
    if device == "cuda" and not cuda:
        raise InvalidSetting("there is no CUDA device here, or torch is not a CUDA build: use `cpu`", field="device")
    if cuda:
        return _load_torch(files, "cuda", precision)
    threads = threads or usable_cores()
    if (folder / "export.json").is_file():
        try:
            return _in_precision(OnnxEncoder(folder, threads), folder, threads, precision, jury)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a cache, it can be made anew
            _log.warning("export_unusable", folder=str(folder), error=str(error), next="exporting again")
    _log.info("exporting_model", model=files.name, revision=files.revision[:12], note="once for these weights")
    try:
        export_apart(files, folder)
        return _in_precision(OnnxEncoder(folder, threads), folder, threads, precision, jury)
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the exporter can't do, the original can
        _log.warning("export_failed", error=str(error), next="serving by sentence-transformers, which is slower")
        return _load_torch(files, "cpu", precision)


def _in_precision(full: Encoder, folder: Path, threads: int, precision: Precision, jury: Jury | None) -> Encoder:
    if precision == "fp32":
        return full
    try:
        return _in_8_bits(folder, threads, jury) or full
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - a full disk, or whatever it was: full precision is at hand
        _log.warning("int8_refused", cause=str(error), next="serving in full precision")
        return full


def _in_8_bits(folder: Path, threads: int, jury: Jury | None) -> Encoder | None:
    """The export in 8 bits, written where it is not there; None where it may not serve."""
    if (known := known_agreement(folder)) is not None:
        try:
            return _agreeing(known, folder, threads)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a cache, it can be made anew
            _log.warning("int8_unusable", error=str(error), next="writing it again")
    if jury is None or not jury.examples:
        _log.warning("int8_refused", cause="no examples to compare by", next="serving in full precision")
        return None
    _log.info("quantizing_model", examples=len(jury.examples), note="once for these weights")
    return _agreeing(quantize(folder, threads, jury), folder, threads)


def _agreeing(found: Agreement, folder: Path, threads: int) -> Encoder | None:
    figures = {"label_agreement": round(found.share, 4), "examples": found.examples, "cosine": round(found.cosine, 4)}
    if found.share < LEAST_AGREEMENT:
        _log.warning("int8_refused", **figures, least=LEAST_AGREEMENT, next="serving in full precision")
        return None
    small = OnnxEncoder(folder, threads, precision="int8", label_agreement=found.share)
    _log.info("int8", **figures)
    return small


def _load_torch(files: ModelFiles, device: str, precision: Precision) -> Encoder:
    if precision == "int8":
        _log.warning(
            "int8_refused",
            cause=f"only exported models can be served so, not one on {device}",
            next="serving it as it is",
        )
    try:
        from nearvote.embedding.torch_encoder import TorchEncoder  # noqa: PLC0415 - imports torch
    except ImportError as error:
        raise ModelNotFound(f"this takes more packages: pip install 'nearvote[models]' ({error})") from error
    try:
        return TorchEncoder(files, device)
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
