"""Measures the parts of others that can be compared with ours, in turns, and adds them to docs/performance.md.

    python -m tests.bench.peers_speed [--repeats 5]

infinity-emb embeds the texts that the engine alone embeds; semantic-router chooses a route among 10,000 utterances for
vectors that are known, as a search and a vote do. Each runs in an environment of its own, made where there is none.
"""

import argparse
import json
import subprocess
import tempfile
import time
import venv
from collections import defaultdict
from pathlib import Path

import numpy as np
from tests.bench import performance, performance_report, sets, store
from tests.bench.peers import semantic_router
from tests.bench.texts import draw

from nearvote.embedding.models import find_model
from nearvote.settings import read_settings

INFINITY = ("infinity-emb[torch]==0.0.78", "torch==2.13.0")
_HOME = Path(__file__).parents[2] / "build" / "infinity"
_TEXTS = 1_000
_ROUTED = 200


def infinity(file: Path) -> float:
    """Texts a second of infinity-emb."""
    python = _HOME / "bin" / "python"
    if not python.exists():
        venv.create(_HOME, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *INFINITY], check=True)
    folder = find_model(read_settings({}).model, None).folder
    script = Path(__file__).with_name("peer_infinity.py")
    done = subprocess.run(
        [str(python), str(script), str(folder), str(file)], check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout.splitlines()[-1])["rate"])


async def routed(count: int) -> tuple[float, float]:
    """Messages a second that semantic-router routes, and that nearvote searches and votes on, vectors known."""
    vectors, labels = await store.plain_examples(count)
    of = await store.real()
    asked = of.asked[:_ROUTED]

    def taken(messages: np.ndarray) -> float:
        began = time.perf_counter()
        semantic_router(vectors, labels, messages)
        return time.perf_counter() - began

    taken(asked[:10])  # makes its environment, and has its files in memory
    # Once with few and once with more, so that setting up falls out.
    few = taken(asked[:10])
    seconds = (taken(asked) - few) / (len(asked) - 10)
    with tempfile.TemporaryDirectory() as folder:
        await store.prepare(Path(folder), count)
        ours = await store.classified(Path(folder), of.asked_texts)
    return 1 / seconds, ours


async def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    figures: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mixed.json"
        file.write_text(json.dumps(draw("mixed", 6_000)[:_TEXTS]))
        for _ in range(repeats):
            figures["engine alone"].append(performance.run("engine", "onnx", file)["rate"])
            figures["infinity-emb"].append(infinity(file))
    theirs, ours = await routed(performance.EXAMPLES)
    figures["semantic-router, routing alone"] = [theirs]
    figures["nearvote, search and vote alone"] = [ours]
    docs = Path(__file__).parents[2] / "docs"
    measured = json.loads((docs / "performance.json").read_text())
    performance_report.write({**measured, "peers": figures}, docs)


if __name__ == "__main__":
    sets.measure_with(main)
