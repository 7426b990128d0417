"""Exporting a model to ONNX, once for each set of weights. Imports torch, so only where there is no export yet."""

import json
import logging
import shutil
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel

from nearvote.embedding.encoder import DEFAULT_MAX_TOKENS, EncoderSpec, normalized
from nearvote.embedding.models import ModelFiles
from nearvote.embedding.onnx_encoder import PROBES, OnnxEncoder
from nearvote.embedding.torch_encoder import load_original, pooling_of, save_tokenizer


class _Graph(torch.nn.Module):
    """Transformer, pooling and the rest in one graph: token ids in, vectors out."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        features = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
        return torch.nn.functional.normalize(features["sentence_embedding"], dim=1)


def export(files: ModelFiles, folder: Path) -> None:
    """Exports a model and checks the export against the original.

    The export appears in `folder` whole or not at all.

    Args:
        files: The model.
        folder: Where to; replaced when it exists.

    Raises:
        ExportMismatch: The export does not compute what the original does.
    """
    model = load_original(files, device="cpu")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        draft = Path(scratch) / "export"
        draft.mkdir()
        pad_id = save_tokenizer(model, files, draft)
        probes = normalized(np.concatenate([model.encode([text], show_progress_bar=False) for text in PROBES]))
        spec = EncoderSpec(
            model=files.name,
            revision=files.revision,
            dimension=probes.shape[1],
            pooling=pooling_of(model),
            max_tokens=model.max_seq_length or DEFAULT_MAX_TOKENS,
            fingerprint=files.fingerprint,
            engine="",
        )
        described = asdict(spec)
        del described["engine"], described["label_agreement"]
        (draft / "export.json").write_text(json.dumps({"spec": described, "pad_id": pad_id}, indent=1))
        np.save(draft / "probes.npy", probes)
        _write_graph(model, draft / "model.onnx")
        OnnxEncoder(draft, threads=1)  # the check
        shutil.rmtree(folder, ignore_errors=True)
        try:
            draft.rename(folder)
        except OSError:
            if not (folder / "export.json").is_file():  # else another process was faster, with the same result
                raise


def _write_graph(model: SentenceTransformer, path: Path) -> None:
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            # Attention as plain products: what torch's own attention is exported to takes a tenth longer.
            module.set_attn_implementation("eager")
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own use of what it deprecates
        # And what it misses of packages that we do not need.
        logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
        torch.onnx.export(
            _Graph(model).eval(),
            (ids, mask),
            path,
            input_names=["input_ids", "attention_mask"],
            output_names=["vectors"],  # not "embedding": a node inside the graph has that name
            dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
            dynamo=True,
            # Weights in a file of their own are mapped, not read: what several sessions use is in memory once.
            external_data=True,
            verbose=False,
        )
