"""Measures speed, in one run for all that is compared, and writes docs/performance.md and docs/performance.json.

    python -m tests.bench.performance [--repeats 5]        all of it: half an hour
    python -m tests.bench.performance throughput latency   some of it; the rest stays as it was measured last

What is compared takes turns, so that a machine that is slow for a minute is slow for all of it. Load comes from a
process of its own (`tests.bench.load`) on the same cores. Texts, their order and the made-up examples are drawn by
stated seeds; see `tests.bench.texts` and `tests.bench.store`.
"""

import argparse
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tests.bench import performance_report, sets, store
from tests.bench.start import core_seconds, resident_mib
from tests.bench.texts import draw, repeated
from tests.integration.server import Server, free_port

from nearvote.settings import read_settings

PARTS = ("throughput", "latency", "cache", "import", "start", "growth")
EXAMPLES = 10_000
COUNTS = (1_000, 10_000, 100_000, 300_000)
_SECONDS = 5.0
_TEXTS = 1_000  # of mixed lengths: see `tests.bench.load`
_MAIL_LOAD = 0.7  # of what the service can take in mails
_DOCS = Path(__file__).parents[2] / "docs"

Figures = dict[str, list[float]]


def run(module: str, *arguments: object, **environment: str) -> dict[str, float]:
    """Runs a part of the bench in a process of its own, and reads what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def load(address: str, file: Path, *arguments: object) -> dict[str, float]:
    """What a load generator saw."""
    seen = run("load", address, file, "--seconds", _SECONDS, "--task", store.TASK, *arguments)
    if seen["errors"]:
        print(f"{seen['errors']:.0f} errors from {address}", file=sys.stderr)
    return seen


@contextmanager
def plain(examples: Path, *flags: str) -> Iterator[str]:
    """The server as most people would write it."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "tests.bench.plain_server", address, str(examples), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield address
    finally:
        process.kill()
        process.wait()


def accounted(figures: Figures, server: Server, name: str, file: Path, *arguments: object) -> dict[str, float]:
    """What a load generator saw, and on what the cores' time went meanwhile: seconds of a core for each text."""
    before = core_seconds(server)
    seen = load(server.address, file, *arguments)
    taken = {what: seconds - before[what] for what, seconds in core_seconds(server).items()}
    seconds = seen["count"] / seen["rate"]
    taken["client"] = seen["cores"] * seconds
    taken["idle"] = len(os.sched_getaffinity(0)) * seconds - sum(taken.values())
    for what, own in taken.items():
        figures[f"{name}: {what}"].append(own / seen["count"])
    return seen


def throughput(figures: Figures, files: dict[str, Path], server: Server, int8: str, plain_edge: str) -> None:
    """One turn of all that is compared by texts a second."""
    mixed, fp32 = files["mixed"], server.address
    texts = ("--texts", _TEXTS)

    def full(name: str, kind: str, concurrency: int) -> dict[str, float]:
        return accounted(figures, server, name, mixed, "--kind", kind, "--concurrency", concurrency, *texts)

    found = {
        "encode in bulk": run("engine", "original", mixed, *texts),
        "encode in bulk, whole texts": run("engine", "original", mixed, "--whole", *texts),
        "engine alone": run("engine", "onnx", mixed, *texts),
        "engine alone, int8": run("engine", "onnx", mixed, "--precision", "int8", *texts),
        "unary, 64 at a time": full("unary, 64 at a time", "unary", 64),
        "stream, 64 at a time": full("stream, 64 at a time", "stream", 64),
        "batches of 32, 4 at a time": full("batches of 32, 4 at a time", "batch", 4),
        "batches of 32, 4 at a time, int8": load(int8, mixed, "--kind", "batch", "--concurrency", 4, *texts),
        "stream, 64 at a time, int8": load(int8, mixed, "--kind", "stream", "--concurrency", 64, *texts),
        "unary, 32 at a time": load(fp32, mixed, "--concurrency", 32, *texts),
        "plain server, 32 at a time": load(plain_edge, mixed, "--concurrency", 32, *texts),
        "unary, 32 at a time, chat": load(fp32, files["chat"], "--concurrency", 32),
        "plain server, 32 at a time, chat": load(plain_edge, files["chat"], "--concurrency", 32),
    }
    for name, value in found.items():
        figures[name].append(value["rate"])


def latency(figures: Figures, files: dict[str, Path], fp32: str) -> None:
    """One turn of single short texts: the engine alone, through the service, and while mails come."""
    alone = run("engine", "onnx", files["chat"], "--one")
    one = load(fp32, files["chat"], "--concurrency", 1)
    for name in ("p50", "p99"):
        figures[f"engine, one text, {name}"].append(alone[name])
        figures[f"one at a time, {name}"].append(one[name])
    figures["short texts, idle, p99"].append(load(fp32, files["chat"], "--rate", 10)["p99"])
    mails = load(fp32, files["mail"], "--concurrency", 16)["rate"]
    figures["mails a second"].append(mails)
    command = [sys.executable, "-m", "tests.bench.load", fp32, str(files["mail"]), "--task", store.TASK]
    with subprocess.Popen(
        [*command, "--rate", str(_MAIL_LOAD * mails), "--seconds", str(_SECONDS + 2)], stdout=subprocess.DEVNULL
    ) as beside:
        time.sleep(1)
        figures["short texts, mails at 70 %, p99"].append(load(fp32, files["chat"], "--rate", 10)["p99"])
        beside.wait()


def cache(figures: Figures, files: dict[str, Path], without: str, with_cache: str) -> None:
    """One turn of a load of which four in five texts came before."""
    figures["repeats, no cache"].append(load(without, files["repeated"], "--concurrency", 64)["rate"])
    figures["repeats, cache"].append(load(with_cache, files["repeated"], "--concurrency", 64)["rate"])


def imports(figures: Figures, folder: Path, files: dict[str, Path]) -> None:
    """One turn of an import into a service of its own, and of the engine alone on the same texts."""
    texts = draw("mixed", 4_000, seed=2)
    lines = folder / "import.jsonl"
    lines.write_text("".join(json.dumps({"text": text, "label": "a"}) + "\n" for text in texts))
    files["import"] = folder / "import.json"
    files["import"].write_text(json.dumps(texts))
    with tempfile.TemporaryDirectory() as data:
        server = Server(Path(data) / "data", "--no-seeds").start()
        server.cli("tasks", "create", "t", "-l", "a", "-l", "b")
        began = time.perf_counter()
        done = server.cli("examples", "import", "--task", "t", "--skip-invalid", str(lines))
        figures["import"].append(len(texts) / (time.perf_counter() - began))
        assert done.returncode == 0, done.stderr
        server.stop()
    figures["engine alone, texts of the import"].append(
        run("engine", "onnx", files["import"], "--texts", len(texts))["rate"]
    )


def start(figures: Figures, data: Path) -> None:
    """One warm start with all examples there, and the memory of the server once it was used."""
    server = Server(data, "--no-seeds", NEARVOTE_EMBEDDING_CACHE_MIB="64")
    began = time.perf_counter()
    server.start()
    figures["warm start"].append(time.perf_counter() - began)
    with server.client() as client:
        client.classify_batch(["a short message", "a longer one, " * 40] * 16, [store.TASK])
    figures["resident memory"].append(resident_mib(server))
    server.stop()


async def growth(folder: Path, files: dict[str, Path], examples: Sequence[int]) -> list[dict[str, Any]]:
    """Throughput, latency and memory with more and more examples."""
    found = []
    for count in examples:
        data = folder / f"data-{count}"
        await store.prepare(data, count)
        server = Server(data, "--no-seeds", NEARVOTE_EMBEDDING_CACHE_MIB="0").start()
        seen = load(server.address, files["chat"], "--concurrency", 32)
        row = {"examples": count, "rate": seen["rate"], "p99": seen["p99"], "memory_mib": resident_mib(server)}
        server.stop()
        searched = run("store", count)
        found.append({**row, **searched})
        print(found[-1], file=sys.stderr)
    return found


def stages(address: str, file: Path) -> dict[str, float]:
    """Where the time of one call goes, in seconds: the medians of what the service says of itself, and the rest."""
    from nearvote import Client  # noqa: PLC0415

    seen: dict[str, list[float]] = defaultdict(list)
    with Client(address) as client:
        for text in json.loads(file.read_text())[:300]:
            began = time.perf_counter()
            told = client.classify(text, [store.TASK]).timings
            whole = time.perf_counter() - began
            parts = {name: getattr(told, name) for name in ("clean", "queue", "embed", "search", "vote")}
            for name, value in {**parts, "transport and client": whole - sum(parts.values())}.items():
                seen[name].append(value)
    return {name: statistics.median(values) for name, values in seen.items()}


def found_for_int8() -> dict[str, float]:
    """How far 8 bits agreed with full precision when the model was made smaller."""
    folders = (read_settings({}).cache_dir / "models").iterdir()
    newest = max((found for folder in folders if (found := folder / "int8.json").exists()), key=os.path.getmtime)
    agreement: dict[str, float] = json.loads(newest.read_text())
    return agreement


def _repeat(what: str, repeats: int, turn: Callable[[], None]) -> None:
    for i in range(repeats):
        turn()
        print(f"{what}, {i + 1} of {repeats}", file=sys.stderr)


async def measure(parts: Collection[str], repeats: int, counts: Sequence[int]) -> dict[str, Any]:
    """The parts that are asked for, one after the other."""
    figures: Figures = defaultdict(list)
    measured: dict[str, Any] = {"figures": figures, "cores": len(os.sched_getaffinity(0))}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = {}
        texts = {"mixed": draw("mixed", 6_000), "chat": draw("chat", 30_000), "mail": draw("mail", 3_000)}
        texts["repeated"] = repeated(draw("mixed", 6_000, seed=1), 0.8)
        for name, own in texts.items():
            files[name] = folder / f"{name}.json"
            files[name].write_text(json.dumps(own))
        await store.prepare(folder / "fp32", EXAMPLES)

        def serve(name: str, **environment: str) -> Server:
            server = Server(folder / name, "--no-seeds", **environment).start()
            stack.callback(server.stop)
            return server

        fp32 = serve("fp32", NEARVOTE_EMBEDDING_CACHE_MIB="0")
        measured["model"] = json.loads(fp32.cli("info", "--json").stdout)["encoder"]["model"]
        if "throughput" in parts:
            await store.prepare(folder / "int8", EXAMPLES, precision="int8")
            vectors = await store.plain_examples(EXAMPLES)
            np.savez(folder / "plain.npz", vectors=vectors[0], labels=vectors[1])
            int8 = serve("int8", NEARVOTE_EMBEDDING_CACHE_MIB="0", NEARVOTE_PRECISION="int8")
            with plain(folder / "plain.npz") as edge:
                _repeat("throughput", repeats, lambda: throughput(figures, files, fp32, int8.address, edge))
            with plain(folder / "plain.npz", "--local") as local:
                figures["plain server on local mode, 32 at a time"].append(
                    load(local, files["mixed"], "--concurrency", 32, "--texts", _TEXTS)["rate"]
                )
            engine = json.loads(int8.cli("info", "--json").stdout)["encoder"]["engine"]
            measured["int8"] = {"served": engine.endswith("int8"), **found_for_int8()}
            int8.stop()
        if "latency" in parts:
            _repeat("latency", repeats, lambda: latency(figures, files, fp32.address))
            measured["stages"] = stages(fp32.address, files["chat"])
        if "cache" in parts:
            await store.prepare(folder / "cached", EXAMPLES)
            cached = serve("cached")
            _repeat("cache", repeats, lambda: cache(figures, files, fp32.address, cached.address))
            cached.stop()
        fp32.stop()
        if "import" in parts:
            _repeat("import", repeats, lambda: imports(figures, folder, files))
        if "start" in parts:
            _repeat("start", repeats, lambda: start(figures, folder / "fp32"))
        if "growth" in parts:
            measured["growth"] = await growth(folder, files, counts)
    return measured


async def main() -> None:
    """Measures, and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none is given")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    asked = parser.parse_args()
    parts = asked.parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    measured = await measure(parts, asked.repeats, asked.counts)
    known: dict[str, Any] = {} if parts == list(PARTS) else json.loads((_DOCS / "performance.json").read_text())
    today = dt.datetime.now(dt.UTC).date().isoformat()
    merged = {
        **known,
        **measured,
        "figures": {**known.get("figures", {}), **measured["figures"]},
        "dates": {**known.get("dates", {}), **dict.fromkeys(parts, today)},
    }
    performance_report.write(merged, _DOCS)


if __name__ == "__main__":
    sets.measure_with(main)
