"""How many texts a second an encoder alone takes: no service, no store, nobody else on the cores.

    python -m tests.bench.engine onnx FILE [--seconds 5]       the exported model, texts sorted by length: the limit
    python -m tests.bench.engine original FILE                 sentence-transformers' `encode`, called in bulk

FILE has a JSON array of texts. Prints JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nearvote.embedding.batcher import MAX_BATCH_TOKENS
from nearvote.embedding.embedder import cut
from nearvote.embedding.encoder import Encoder
from nearvote.embedding.load import load_encoder
from nearvote.embedding.models import find_model
from nearvote.settings import read_settings
from nearvote.text.clean import clean

_BULK = 512  # texts that are sorted and packed together
_ALONE = 400  # texts that go one at a time


def onnx_in_bulk(encoder: Encoder, texts: Sequence[str], budget: int) -> None:
    """Tokenizes texts, cuts them, sorts the windows by length, and encodes batches that cost up to so many tokens."""
    windows = sorted((window for own in cut(encoder, texts) for window in own), key=len)
    start = 0
    while start < len(windows):
        end = start + 1
        while end < len(windows) and encoder.spec.cost(windows[start : end + 1]) <= budget:
            end += 1
        encoder.encode(windows[start:end])
        start = end


def rate(work: Callable[[Sequence[str]], object], texts: Sequence[str], seconds: float) -> float:
    """Texts a second, over at least so many seconds, once warm."""
    work(texts[:64])
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = done % max(1, len(texts) - _BULK + 1)
        part = texts[start : start + _BULK]
        work(part)
        done += len(part)
    return done / (time.perf_counter() - began)


def one_by_one(work: Callable[[Sequence[str]], object], texts: Sequence[str]) -> dict[str, float]:
    """Seconds that one text alone takes: median and 99th percentile."""
    work(texts[:64])
    taken = []
    for text in texts[:_ALONE]:
        began = time.perf_counter()
        work([text])
        taken.append(time.perf_counter() - began)
    return {"p50": statistics.median(taken), "p99": statistics.quantiles(taken, n=100)[98]}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=("onnx", "original"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--precision", default="fp32", help="int8 where a service has made it")
    parser.add_argument("--one", action="store_true", help="one text at a time: seconds a text, median and 99 %%")
    asked = parser.parse_args()
    texts: list[str] = json.loads(asked.file.read_text())
    if asked.engine == "onnx":
        settings = read_settings({"precision": asked.precision})
        encoder = load_encoder(settings.model, None, "cpu", settings.cache_dir, None, settings.precision)
        cleaned = [clean(text, html=False) for text in texts]

        def work(part: Sequence[str]) -> None:
            onnx_in_bulk(encoder, part, MAX_BATCH_TOKENS)

        print(json.dumps(one_by_one(work, cleaned) if asked.one else {"rate": rate(work, cleaned, asked.seconds)}))
    else:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415

        model = SentenceTransformer(str(find_model(read_settings({}).model, None).folder), device="cpu")

        def original(part: Sequence[str]) -> None:
            model.encode(list(part), batch_size=32, show_progress_bar=False)

        print(json.dumps(one_by_one(original, texts) if asked.one else {"rate": rate(original, texts, asked.seconds)}))


if __name__ == "__main__":
    main()
