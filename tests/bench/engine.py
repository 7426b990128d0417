"""How many texts a second an encoder alone takes: no service, no store, nobody else on the cores.

    python -m tests.bench.engine onnx FILE [--texts 1000]      the exported model, texts sorted by length: the limit
    python -m tests.bench.engine original FILE                 sentence-transformers' `encode`, called in bulk
    python -m tests.bench.engine original FILE --whole         the same, of all windows of each text

FILE has a JSON array of texts. Prints JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

from nearvote.embedding.batcher import MAX_BATCH_TOKENS
from nearvote.embedding.embedder import cut
from nearvote.embedding.encoder import Encoder
from nearvote.embedding.load import load_encoder
from nearvote.embedding.models import find_model
from nearvote.embedding.onnx_encoder import usable_cores
from nearvote.settings import read_settings
from nearvote.text.clean import clean

_BULK = 512  # texts that are sorted and packed together
_ALONE = 400  # texts that go one at a time


def onnx_in_bulk(encoder: Encoder, texts: Sequence[str], budget: int, cores: Executor) -> None:
    """Tokenizes texts, cuts them, sorts the windows by length, and encodes batches that cost up to so many tokens.

    Each core takes batches of its own, which is faster than all cores for one batch.
    """
    windows = sorted((window for own in cut(encoder, texts) for window in own), key=len)
    batches = []
    start = 0
    while start < len(windows):
        end = start + 1
        while end < len(windows) and encoder.spec.cost(windows[start : end + 1]) <= budget:
            end += 1
        batches.append(windows[start:end])
        start = end
    for _ in cores.map(lambda batch: encoder.encode(batch, alone=False), batches):
        pass


def rate(work: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    """Texts a second, once warm, over each text once."""
    work(texts[:64])
    began = time.perf_counter()
    for start in range(0, len(texts), _BULK):
        work(texts[start : start + _BULK])
    return len(texts) / (time.perf_counter() - began)


def one_by_one(work: Callable[[Sequence[str]], object], texts: Sequence[str]) -> dict[str, float]:
    """Seconds that one text alone takes: median and 99th percentile."""
    work(texts[:64])
    taken = []
    for text in texts[:_ALONE]:
        began = time.perf_counter()
        work([text])
        taken.append(time.perf_counter() - began)
    return {"p50": statistics.median(taken), "p99": statistics.quantiles(taken, n=100)[98]}


def onnx(texts: Sequence[str], precision: str, *, one: bool) -> dict[str, float]:
    """What the exported model does, in bulk or for one text at a time."""
    settings = read_settings({"precision": precision})
    encoder = load_encoder(settings.model, None, "cpu", settings.cache_dir, None, settings.precision)
    cleaned = [clean(text, html=False) for text in texts]
    if one:
        return one_by_one(lambda part: [encoder.encode(windows) for windows in cut(encoder, part)], cleaned)
    with ThreadPoolExecutor(usable_cores()) as cores:
        return {"rate": rate(lambda part: onnx_in_bulk(encoder, part, MAX_BATCH_TOKENS, cores), cleaned)}


def original(texts: Sequence[str], *, whole: bool) -> dict[str, float]:
    """What sentence-transformers does in bulk, with the beginning of each text, or with all of it in windows."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    settings = read_settings({})
    model = SentenceTransformer(str(find_model(settings.model, None).folder), device="cpu")
    read = {text: [text] for text in texts}
    if whole:  # cut beforehand, at no cost to it
        encoder = load_encoder(settings.model, None, "cpu", settings.cache_dir, None)
        for text, windows in zip(texts, cut(encoder, texts), strict=True):
            read[text] = [model.tokenizer.decode(window) for window in windows]

    def work(part: Sequence[str]) -> None:
        model.encode([own for text in part for own in read[text]], batch_size=32, show_progress_bar=False)

    return {"rate": rate(work, texts)}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=("onnx", "original"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--texts", type=int, default=1_000, help="the first so many")
    parser.add_argument("--precision", default="fp32", help="int8 where a service has made it")
    parser.add_argument("--one", action="store_true", help="one text at a time: seconds a text, median and 99 %%")
    parser.add_argument("--whole", action="store_true", help="all windows of each text")
    asked = parser.parse_args()
    texts: list[str] = json.loads(asked.file.read_text())[: asked.texts]
    if asked.engine == "onnx":
        print(json.dumps(onnx(texts, asked.precision, one=asked.one)))
    else:
        print(json.dumps(original(texts, whole=asked.whole)))


if __name__ == "__main__":
    main()
