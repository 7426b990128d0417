"""Serving on a CPU: an exported model in ONNX Runtime. Imports neither torch nor transformers."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort

from nearvote.embedding.encoder import EncoderSpec, Matrix, Tokens, normalized
from nearvote.embedding.tokenizer import ModelTokenizer
from nearvote.priority import ENCODING, give_way
from nearvote.startup_errors import ExportMismatch

Precision = Literal["fp32", "int8"]

INT8_MODEL = "model.int8.onnx"
# What two computations of the same vector may differ by. Measured: 0.999999 for fp32 (tests/unit/test_onnx.py). For
# int8 it only tells a broken file: whether it is good enough, examples tell.
_LEAST_COSINE = {"fp32": 0.9999, "int8": 0.9}

# Texts on which an export is checked: short, long, other scripts, odd characters.
PROBES = (
    "hello",
    "Your parcel is held at our depot, please pay the fee.",
    "¿Dónde está mi pedido? Меня зовут робот. 你好 😀",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9 ! ? . , ; : - _ ( ) [ ]",
    "the quick brown fox jumps over the lazy dog and runs into the forest, " * 12,
)


class OnnxEncoder:
    """An exported model.

    Args:
        folder: An export: `model.onnx`, `tokenizer.json`, `export.json`, `probes.npy`, and `model.int8.onnx` for int8.
        threads: Threads of a computation that is alone, 1 or more.
        precision: Of the weights.
        label_agreement: Goes into the spec.

    Raises:
        ExportMismatch: The export does not compute what the original did.
    """

    def __init__(self, folder: Path, threads: int, precision: Precision = "fp32", label_agreement: float = 1.0) -> None:
        meta = json.loads((folder / "export.json").read_text())
        self.spec = EncoderSpec(**meta["spec"], engine="onnx-cpu")
        if precision == "int8":  # its vectors are others, and not to be compared with those of full precision
            self.spec = replace(
                self.spec,
                fingerprint=f"{self.spec.fingerprint}-int8",
                engine="onnx-cpu-int8",
                label_agreement=label_agreement,
            )
        self._tokenizer = ModelTokenizer(folder / "tokenizer.json", meta["pad_id"])
        self.window_tokens = self.spec.max_tokens - self._tokenizer.special_tokens
        model = folder / (INT8_MODEL if precision == "int8" else "model.onnx")
        # A batch alone has all threads, and is done soonest. Of several at a time each has one: threads that share out
        # a batch wait for one another, and most for the one that another thread has taken the core from.
        self._wide = _session(model, threads)
        self._narrow = _session(model, 1) if threads > 1 else self._wide
        self._inputs = [one.name for one in self._wide.get_inputs()]
        self._check(np.load(folder / "probes.npy", allow_pickle=False), _LEAST_COSINE[precision])

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, whole, without special tokens."""
        return self._tokenizer.tokenize(texts)

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        """(n, dimension) float32, rows of length 1."""
        if not windows:
            return np.empty((0, self.spec.dimension), dtype=np.float32)
        arrays = self._tokenizer.pack(windows) if self.spec.packs else self._tokenizer.pad(windows)
        session = self._wide if alone else self._narrow
        (vectors,) = session.run(None, dict(zip(self._inputs, arrays, strict=True)))
        return normalized(vectors)

    def _check(self, expected: Matrix, least: float) -> None:
        actual = encode_probes(self)
        worst = float((actual * expected).sum(axis=1).min()) if actual.shape == expected.shape else -1.0
        # Not `worst < MIN`: a NaN must not pass.
        if not worst >= least:
            raise ExportMismatch(f"the exported model is off: cosine {worst:.6f} to the original on a probe text")


def _session(model: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning threads wait for work by burning the cores that RPC and search need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        # Its threads are as urgent as the one that makes it.
        with ThreadPoolExecutor(1, initializer=give_way, initargs=(ENCODING,)) as maker:
            return maker.submit(ort.InferenceSession, model, options, providers=["CPUExecutionProvider"]).result()
    except Exception as error:  # the runtime's own exceptions have no common base
        raise ExportMismatch(f"{model} can't be loaded: {error}") from error


def encode_probes(encoder: OnnxEncoder) -> Matrix:
    """Vectors of the probe texts' first windows, (number of probes, dimension)."""
    windows = [tokens[: encoder.window_tokens] for tokens in encoder.tokenize(PROBES)]
    if encoder.spec.packs:  # together, so that one which looks at its neighbour is found out
        return encoder.encode(windows)
    return np.concatenate([encoder.encode([window]) for window in windows])


def usable_cores() -> int:
    """Cores that this process may use: its affinity, or its control group's quota where that is less."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
