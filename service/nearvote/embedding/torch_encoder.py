"""Serving by sentence-transformers: on CUDA, and for models that can't be exported."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils.logging import disable_progress_bar

from nearvote.embedding.encoder import DEFAULT_MAX_TOKENS, EncoderSpec, Matrix, Tokens, normalized
from nearvote.embedding.models import ModelFiles
from nearvote.embedding.tokenizer import ModelTokenizer


class TorchEncoder:
    """A sentence-transformers model as it is.

    Args:
        files: The model.
        device: `cuda` or `cpu`.
    """

    def __init__(self, files: ModelFiles, device: str) -> None:
        self._model = load_original(files, device)
        if device == "cuda":  # half the memory to move, and twice the products a second
            self._model.half()
        with tempfile.TemporaryDirectory() as scratch:  # not in the cache, which may be what can't be written
            pad_id = save_tokenizer(self._model, files, Path(scratch))
            self._tokenizer = ModelTokenizer(Path(scratch) / "tokenizer.json", pad_id)
        probe = self._model.encode(["hello"], show_progress_bar=False)
        self.spec = EncoderSpec(
            model=files.name,
            revision=files.revision,
            dimension=probe.shape[1],
            pooling=pooling_of(self._model),
            max_tokens=self._model.max_seq_length or DEFAULT_MAX_TOKENS,
            fingerprint=files.fingerprint,
            engine=f"torch-{device}",
        )
        self.window_tokens = self.spec.max_tokens - self._tokenizer.special_tokens

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, whole, without special tokens."""
        return self._tokenizer.tokenize(texts)

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:  # noqa: ARG002 - torch has threads of its own
        """(n, dimension) float32, rows of length 1."""
        if not windows:
            return np.empty((0, self.spec.dimension), dtype=np.float32)
        ids, mask = self._tokenizer.pad(windows)
        with torch.inference_mode():
            features = self._model({"input_ids": self._moved(ids), "attention_mask": self._moved(mask)})
        return normalized(features["sentence_embedding"].float().cpu().numpy())

    def _moved(self, numbers: npt.NDArray[np.int64]) -> torch.Tensor:
        tensor = torch.from_numpy(numbers)
        if self._model.device.type == "cuda":  # from pinned memory it is copied while the device is at work
            tensor = tensor.pin_memory()
        return tensor.to(self._model.device, non_blocking=True)


def load_original(files: ModelFiles, device: str) -> SentenceTransformer:
    """Loads a model with sentence-transformers, from its folder alone: no network, no code that came with it."""
    disable_progress_bar()  # type: ignore[no-untyped-call] # it would draw into the log
    model = SentenceTransformer(str(files.folder), device=device, local_files_only=True, trust_remote_code=False)
    return model.eval()


def pooling_of(model: SentenceTransformer) -> str:
    """How the model makes one vector of its tokens' vectors: `mean`, `cls`, ...; empty when it does not say."""
    for module in model:
        mode = getattr(module, "pooling_mode", None) or getattr(module, "get_pooling_mode_str", None)
        if mode is not None:
            return str(mode() if callable(mode) else mode)
    return ""


def save_tokenizer(model: SentenceTransformer, files: ModelFiles, folder: Path) -> int:
    """Writes the model's `tokenizer.json` to a folder.

    Returns:
        The id that fills batches up.
    """
    tokenizer: Any = model.tokenizer
    path = folder / "tokenizer.json"
    original = files.folder / "tokenizer.json"
    if original.is_file():
        path.write_bytes(original.read_bytes())
    else:  # an older model with a vocabulary only; its fast tokenizer was built while loading
        tokenizer.backend_tokenizer.save(str(path))
    return int(tokenizer.pad_token_id or 0)
