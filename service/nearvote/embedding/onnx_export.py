"""Exporting a model to ONNX, once for each set of weights, which `onnx_apart.py` has done apart."""

import json
import logging
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from nearvote.embedding.encoder import DEFAULT_MAX_TOKENS, EncoderSpec, normalized
from nearvote.embedding.models import ModelFiles
from nearvote.embedding.onnx_encoder import PROBES, OnnxEncoder
from nearvote.embedding.onnx_graphs import Packed, Padded, can_pack, transformer_of
from nearvote.embedding.scratch import scratch_in
from nearvote.embedding.torch_encoder import load_original, pooling_of, save_tokenizer


def export(files: ModelFiles, folder: Path) -> str | None:
    """Exports a model and checks the export against the original.

    The export appears in `folder` whole or not at all.

    Args:
        files: The model.
        folder: Where to; replaced when it exists.

    Returns:
        Why windows of a model that should be packed are filled up to the longest; None where nothing failed.

    Raises:
        ExportMismatch: The export does not compute what the original does.
    """
    model = load_original(files, device="cpu")
    with scratch_in(folder.parent) as scratch:
        draft = scratch / "export"
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
        del described["engine"], described["label_agreement"], described["packs"]
        np.save(draft / "probes.npy", probes)

        def make(*, packs: bool) -> None:
            meta = {"spec": {**described, "packs": packs}, "pad_id": pad_id}
            (draft / "export.json").write_text(json.dumps(meta, indent=1))
            _write_graph(model, Packed(model) if packs else Padded(model), draft / "model.onnx")
            OnnxEncoder(draft, threads=1)  # the check

        packs, why_not = can_pack(model), None
        if packs:
            try:
                make(packs=True)
            except Exception as error:  # noqa: BLE001 - whatever does not pack can be padded
                packs, why_not = False, str(error)
        if not packs:
            make(packs=False)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            draft.rename(folder)
        except OSError:
            if not (folder / "export.json").is_file():  # else another process was faster, with the same result
                raise
    return why_not


def _write_graph(model: SentenceTransformer, graph: Packed | Padded, path: Path) -> None:
    if (transformer := transformer_of(model)) is not None:
        # Attention as plain products: what torch's own attention is exported to takes a tenth longer.
        transformer.set_attn_implementation("eager")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own use of what it deprecates
        # And what it misses of packages that we do not need.
        logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
        torch.onnx.export(
            graph.eval(),
            graph.sample,
            path,
            input_names=graph.inputs,
            output_names=["vectors"],  # not "embedding": a node inside the graph has that name
            dynamic_shapes=[dict.fromkeys(range(one.dim()), torch.export.Dim.DYNAMIC) for one in graph.sample],
            dynamo=True,
            # Weights in a file of their own are mapped, not read: what several sessions use is in memory once.
            external_data=True,
            verbose=False,
        )


def export_to(name: str, source: str, revision: str, target: str) -> str | None:
    """`export` of the model of this name and revision in the folder `source`, to the folder `target`."""
    return export(ModelFiles(name, Path(source), revision), Path(target))
