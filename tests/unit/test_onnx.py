import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from nearvote.apart import interruptible
from nearvote.embedding import load, onnx_export, onnx_graphs, onnx_quantize
from nearvote.embedding.encoder import Encoder, Matrix, Tokens
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.embedding.load import load_encoder
from nearvote.embedding.models import DEFAULT_MODEL, ModelFiles, find_model
from nearvote.embedding.onnx_apart import export_apart, quantize_apart
from nearvote.embedding.onnx_encoder import INT8_MODEL, OnnxEncoder
from nearvote.embedding.onnx_quantize import Agreement, Jury, Labelled, compare
from nearvote.errors import Interrupted
from nearvote.learn.others import labels_by_others
from nearvote.startup_errors import ExportFailed, ExportMismatch

_TEXTS = [
    "a",
    "hello there",
    "Your parcel is held: pay the 1.99 fee at http://parcel-fee.example now!",
    "¿Dónde está mi pedido? Меня зовут робот. 你好 😀",
    "I still have not received my refund. " * 5,
    "the meeting was moved to Thursday, please bring the printed slides and the keys " * 12,
    "one two three four five six seven eight nine ten " * 25,  # nearly the longest input
    "nobody reads that far, said the clerk, and went on to stamp the forms " * 40,  # longer than it
]


@pytest.fixture(scope="module")
def encoder(model_cache: Path) -> Encoder:
    """The default model, exported where that has not been done."""
    return load_encoder(DEFAULT_MODEL, None, "cpu", model_cache, threads=2)


@pytest.fixture(scope="module")
def original() -> SentenceTransformer:
    """The default model as it was published."""
    return SentenceTransformer(str(find_model(DEFAULT_MODEL).folder), device="cpu")


def _embed(encoder: Encoder, texts: list[str]) -> Matrix:
    return encoder.encode([tokens[: encoder.window_tokens] for tokens in encoder.tokenize(texts)])


def test_serves_by_onnx(encoder: Encoder) -> None:
    """On a CPU the default model is served by ONNX Runtime, and its spec says what it is."""
    assert encoder.spec.engine == "onnx-cpu"
    assert (encoder.spec.model, encoder.spec.revision) == (DEFAULT_MODEL, find_model(DEFAULT_MODEL).revision)
    assert (encoder.spec.dimension, encoder.spec.pooling, encoder.spec.max_tokens) == (384, "mean", 256)
    assert encoder.window_tokens == 254


def test_agrees_with_the_original(encoder: Encoder, original: SentenceTransformer) -> None:
    """Vectors of texts of all lengths are those of sentence-transformers, and of length 1."""
    vectors = _embed(encoder, _TEXTS)
    expected = original.encode(_TEXTS, normalize_embeddings=True, show_progress_bar=False)
    assert ((vectors * expected).sum(axis=1) >= 0.9999).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert vectors.dtype == np.float32


def test_the_torch_encoder_agrees(encoder: Encoder) -> None:
    """What serves where there is no export gives the same vectors, under a spec of the same key."""
    from nearvote.embedding.torch_encoder import TorchEncoder  # noqa: PLC0415 - as the code does, since it imports torch

    torch_encoder = TorchEncoder(find_model(DEFAULT_MODEL), "cpu")
    assert encoder.spec.key == torch_encoder.spec.key
    assert torch_encoder.spec.engine == "torch-cpu"
    assert ((_embed(encoder, _TEXTS) * _embed(torch_encoder, _TEXTS)).sum(axis=1) >= 0.9999).all()
    assert torch_encoder.encode([]).shape == (0, 384)


def test_padding_changes_nothing(encoder: Encoder) -> None:
    """A text has the same vector alone and beside longer ones."""
    alone = np.concatenate([_embed(encoder, [text]) for text in _TEXTS])
    np.testing.assert_allclose(_embed(encoder, _TEXTS), alone, atol=1e-5)


def test_windows_go_end_to_end(encoder: Encoder) -> None:
    """The default model's windows are packed, and a batch costs the sum of their tokens."""
    assert encoder.spec.packs
    assert encoder.spec.cost([np.zeros(3, np.int32), np.zeros(5, np.int32)]) == 8


def test_a_model_that_does_not_pack_is_padded(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When windows that go end to end see one another, the check finds it, and they are filled up instead."""
    monkeypatch.setattr(onnx_graphs, "_UNSEEN", 0.0)
    assert "is off" in str(onnx_export.export(find_model(DEFAULT_MODEL), tmp_path / "export"))
    padded = OnnxEncoder(tmp_path / "export", threads=1)
    assert not padded.spec.packs
    assert padded.spec.cost([np.zeros(3, np.int32), np.zeros(5, np.int32)]) == 10
    assert padded.spec.key == encoder.spec.key
    assert ((_embed(encoder, _TEXTS) * _embed(padded, _TEXTS)).sum(axis=1) >= 0.9999).all()


def test_no_windows(encoder: Encoder) -> None:
    """No windows have no vectors, of the right dimension."""
    vectors = encoder.encode([])
    assert vectors.shape == (0, 384)
    assert vectors.dtype == np.float32


def test_texts_are_tokenized_whole(encoder: Encoder) -> None:
    """Tokens come without special ones and are never cut to the model's input."""
    empty, one, long = encoder.tokenize(["", "hello", "hello " * 5000])
    assert (len(empty), len(one), len(long)) == (0, 1, 5000)


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_a_start_is_light(encoder: Encoder, model_cache: Path, tmp_path: Path, *, warm: bool) -> None:
    """A start imports neither torch nor transformers, not even one that exports, and computes the same."""
    code = (
        "import json, sys; from pathlib import Path; from nearvote.embedding.load import load_encoder\n"
        f"e = load_encoder({DEFAULT_MODEL!r}, None, 'cpu', Path(sys.argv[1]), 1)\n"
        "v = e.encode(e.tokenize(['hello there'])).tolist()\n"
        "print(json.dumps([e.spec.engine, v, sorted(m for m in sys.modules if '.' not in m)]))"
    )
    command = [sys.executable, "-c", code, str(model_cache if warm else tmp_path)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ))
    engine, vectors, modules = json.loads(ran.stdout.splitlines()[-1])
    assert engine == "onnx-cpu"
    np.testing.assert_allclose(_embed(encoder, ["hello there"]), vectors, atol=1e-5)
    assert "onnxruntime" in modules
    assert {"torch", "transformers", "sentence_transformers"}.isdisjoint(modules)


def _export_of(cache: Path) -> Path:
    return cache / "models" / f"{find_model(DEFAULT_MODEL).fingerprint}-{load._EXPORT_FORMAT}"


def _halved(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()  # it may be a link to the good one
    path.write_bytes(content[: len(content) // 2])


def _emptied(path: Path) -> None:
    path.unlink()
    path.touch()


def _of_another_model(path: Path) -> None:
    probes = np.load(path)
    path.unlink()
    np.save(path, np.roll(probes, 1, axis=0))


def _not_numbers(path: Path) -> None:
    probes = np.load(path)
    path.unlink()
    np.save(path, np.full_like(probes, np.nan))


def _without_spec(path: Path) -> None:
    path.unlink()
    path.write_text('{"pad_id": 0}')


_DAMAGES = [
    ("model.onnx.data", _halved),
    ("model.onnx.data", _emptied),
    ("model.onnx", _halved),
    ("model.onnx", _emptied),
    ("model.onnx", Path.unlink),
    ("tokenizer.json", _halved),
    ("tokenizer.json", Path.unlink),
    ("probes.npy", _halved),
    ("probes.npy", _emptied),
    ("probes.npy", _of_another_model),
    ("probes.npy", _not_numbers),
    ("export.json", _halved),
    ("export.json", _without_spec),
    ("export.json", Path.unlink),
]


def _stop(*_: object) -> None:
    raise Interrupted("by SIGINT")


def test_no_thread_of_it_is_as_urgent_as_a_call(encoder: Encoder, model_cache: Path) -> None:
    """The runtime's own threads, with which it shares out a batch, are less urgent than the one that takes calls."""
    first = os.getpriority(os.PRIO_PROCESS, os.getpid())
    assert encoder.spec.engine == "onnx-cpu"  # so it has been exported
    before = set(Path("/proc/self/task").iterdir())
    another = load_encoder(DEFAULT_MODEL, None, "cpu", model_cache, threads=3)
    started = set(Path("/proc/self/task").iterdir()) - before
    niceness = [os.getpriority(os.PRIO_PROCESS, int(thread.name)) for thread in started]
    assert len(niceness) >= 2
    assert [one for one in niceness if one <= first] == []
    del another


@pytest.fixture
def damaged_cache(encoder: Encoder, model_cache: Path, tmp_path: Path) -> Path:
    """A cache of its own, to be damaged, with links to the good export."""
    assert encoder.spec.engine == "onnx-cpu"  # so it has been exported
    good = _export_of(model_cache)
    shutil.copytree(good, tmp_path / "models" / good.name, copy_function=os.symlink)
    return tmp_path


@pytest.mark.parametrize(("name", "damage"), _DAMAGES, ids=lambda value: getattr(value, "__name__", value))
def test_a_damaged_export_is_made_anew(
    name: str,
    damage: Callable[[Path], None],
    damaged_cache: Path,
    model_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An export that can't be used, whatever has happened to its files, is noticed and made anew."""
    made: list[Path] = []

    def export_again(files: ModelFiles, folder: Path) -> None:
        assert files.name == DEFAULT_MODEL
        shutil.rmtree(folder)
        shutil.copytree(_export_of(model_cache), folder, copy_function=os.symlink)
        made.append(folder)

    monkeypatch.setattr(load, "export_apart", export_again)
    folder = _export_of(damaged_cache)
    damage(folder / name)
    again = load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, threads=2)
    assert [folder] == made
    assert again.spec.engine == "onnx-cpu"


def test_a_good_export_is_kept(damaged_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that is whole is used as it is."""

    def export_again(_: ModelFiles, folder: Path) -> None:
        pytest.fail(f"{folder} was good")

    monkeypatch.setattr(load, "export_apart", export_again)
    assert load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, threads=2).spec.engine == "onnx-cpu"


def test_an_export_that_computes_something_else_is_refused(damaged_cache: Path) -> None:
    """An export whose vectors are not the original's is never served."""
    folder = _export_of(damaged_cache)
    _of_another_model(folder / "probes.npy")
    with pytest.raises(ExportMismatch, match="is off"):
        OnnxEncoder(folder, threads=1)


def test_what_cant_be_exported_is_served_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that can't be exported is served by sentence-transformers."""

    def refuse(_: ModelFiles, folder: Path) -> None:
        raise ExportFailed(f"{folder}: no such operator")

    monkeypatch.setattr(load, "export_apart", refuse)
    served = load_encoder(DEFAULT_MODEL, None, "cpu", tmp_path, threads=2)
    assert served.spec.engine == "torch-cpu"


def test_an_export_that_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops the service while a model is exported does not have it loaded by sentence-transformers first."""
    monkeypatch.setattr(load, "export_apart", _stop)
    monkeypatch.setattr(load, "_load_torch", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(Interrupted):
        load_encoder(DEFAULT_MODEL, None, "cpu", tmp_path, threads=2)


def test_a_cache_that_cant_be_written(tmp_path: Path) -> None:
    """Where no export can be kept the model is served as it is: slower, and with nothing in the cache."""
    (tmp_path / "cache").touch()  # a file in its place, since root may write to any folder
    assert load_encoder(DEFAULT_MODEL, None, "cpu", tmp_path / "cache", threads=2).spec.engine == "torch-cpu"


def test_what_killed_processes_left_is_cleared_away(encoder: Encoder, damaged_cache: Path) -> None:
    """Drafts of an hour ago go at a start; those on which somebody may be at work, and exports, stay."""
    assert encoder.spec.engine == "onnx-cpu"
    old, new = damaged_cache / "models" / "scratch-old", damaged_cache / "models" / "scratch-new"
    for draft in (old, new):
        (draft / "export").mkdir(parents=True)
    os.utime(old, (0, 0))
    os.utime(_export_of(damaged_cache), (0, 0))
    assert load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, threads=2).spec.engine == "onnx-cpu"
    assert sorted((damaged_cache / "models").iterdir()) == sorted([_export_of(damaged_cache), new])


def test_a_comparison_that_is_given_up(damaged_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison of 8 bits, which runs in the service, ends when nobody waits for it."""
    _forget_int8(damaged_cache)
    with interruptible() as interruption:

        def written_then_given_up(model: Path, small: Path) -> None:
            quantize_apart(model, small)
            interruption.give_up()

        monkeypatch.setattr(onnx_quantize, "quantize_apart", written_then_given_up)
        with pytest.raises(Interrupted):
            load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8", _jury(np.random.default_rng(0)))
    assert list((damaged_cache / "models").iterdir()) == [_export_of(damaged_cache)]


def test_what_ended_an_export_is_told(tmp_path: Path) -> None:
    """Why a model can't be exported comes from the process that tried, and it leaves nothing behind."""
    files = find_model(DEFAULT_MODEL)
    shutil.copytree(files.folder, tmp_path / "model")
    _emptied(tmp_path / "model" / "tokenizer.json")
    (tmp_path / "cache").mkdir()
    with pytest.raises(ExportFailed, match=r"^\w+(Error|Exception): "):
        export_apart(ModelFiles("none", tmp_path / "model", "0"), tmp_path / "cache" / "export")
    assert list((tmp_path / "cache").iterdir()) == []


def test_hashing_needs_no_model(tmp_path: Path) -> None:
    """The encoder without a model is loaded by its name and leaves no files."""
    assert load_encoder("hashing", None, "auto", tmp_path, None).spec.model == "hashing"
    assert list(tmp_path.iterdir()) == []


def _forget_int8(cache: Path) -> None:
    """What somebody else made of the shared export is not what is tested."""
    (_export_of(cache) / "int8.json").unlink(missing_ok=True)


def _nearest_others(examples: Sequence[Labelled], vectors: Matrix) -> list[str]:
    """The nearest other's label; the first one's of equally near ones."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return [examples[i].label for i in similarity.argmax(axis=1)]


def _jury(rng: np.random.Generator) -> Jury:
    return Jury(_labelled(rng), labels_by_others)


def _labelled(rng: np.random.Generator) -> list[Labelled]:
    words = {"spam": ["win money now", "free prize", "cheap pills"], "ham": ["see you at lunch", "the meeting moved"]}
    return [
        Labelled("t", label, f"{rng.choice(phrases)} {rng.choice(_TEXTS[:4])} {i}")
        for i in range(30)
        for label, phrases in words.items()
    ]


def test_the_same_alone_and_beside_others(encoder: Encoder) -> None:
    """With all cores or one, vectors are the same."""
    windows = [tokens[: encoder.window_tokens] for tokens in encoder.tokenize(_TEXTS)]
    beside = encoder.encode(windows, alone=False)
    assert ((encoder.encode(windows, alone=True) * beside).sum(axis=1) > 0.99999).all()


def test_int8_where_labels_stay(encoder: Encoder, damaged_cache: Path) -> None:
    """In 8 bits vectors are a little off, and of a space of their own; the figure is measured once and kept."""
    rng = np.random.default_rng(0)
    _forget_int8(damaged_cache)
    small = load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8", _jury(rng))
    assert (small.spec.engine, small.spec.key == encoder.spec.key) == ("onnx-cpu-int8", False)
    assert 0.985 <= small.spec.label_agreement <= 1
    cosines = (_embed(small, _TEXTS) * _embed(encoder, _TEXTS)).sum(axis=1)
    assert 0.95 < cosines.min() < 0.99999, "else it is the same model"
    again = load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8")
    assert again.spec == small.spec
    assert load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2).spec.engine == "onnx-cpu"


def test_int8_refused_where_nothing_tells(damaged_cache: Path) -> None:
    """Where no examples tell whether labels stay, or too few keep theirs, full precision serves."""
    _forget_int8(damaged_cache)
    assert load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8").spec.engine == "onnx-cpu"
    told = load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8", _jury(np.random.default_rng(0)))
    assert told.spec.engine == "onnx-cpu-int8", "now there are some"
    figure = _export_of(damaged_cache) / "int8.json"
    figure.write_text(json.dumps(json.loads(figure.read_text()) | {"share": 0.98}))
    assert load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8").spec.engine == "onnx-cpu"


def test_int8_refused_where_it_cant_be_made(damaged_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a model can't be written in 8 bits, full precision serves, from the export that is there."""
    _forget_int8(damaged_cache)
    failures: list[ExportFailed] = []

    def fail(model: Path, small: Path) -> None:
        with pytest.raises(ExportFailed) as failed:
            quantize_apart(model.with_name("none"), small)
        failures.append(failed.value)
        raise failed.value

    monkeypatch.setattr(onnx_quantize, "quantize_apart", fail)
    served = load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8", _jury(np.random.default_rng(0)))
    assert (served.spec.engine, len(failures)) == ("onnx-cpu", 1)


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), ExportMismatch("is off")], ids=repr)
def test_int8_refused_whatever_fails(error: Exception, damaged_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for 8 bits, or they compute something else, full precision serves: nothing is exported."""
    _forget_int8(damaged_cache)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(onnx_quantize, "quantize_apart", fail)
    monkeypatch.setattr(load, "export_apart", lambda *_: pytest.fail("the export was good"))
    served = load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8", _jury(np.random.default_rng(0)))
    assert served.spec.engine == "onnx-cpu"


def test_int8_that_is_interrupted(damaged_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops the service while 8 bits are written does not have it start, or export anew, first."""
    _forget_int8(damaged_cache)
    monkeypatch.setattr(onnx_quantize, "quantize_apart", _stop)
    monkeypatch.setattr(load, "export_apart", lambda *_: pytest.fail("the export was good"))
    with pytest.raises(Interrupted):
        load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8", _jury(np.random.default_rng(0)))


@pytest.mark.parametrize("damage", [_halved, _emptied, Path.unlink])
def test_damaged_int8_is_made_anew(
    damage: Callable[[Path], None], damaged_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 bits that can't be loaded are written again where examples tell, else full precision serves."""
    _forget_int8(damaged_cache)
    jury = _jury(np.random.default_rng(0))
    monkeypatch.setattr(load, "export_apart", lambda *_: pytest.fail("the export was good"))
    assert load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8", jury).spec.engine == "onnx-cpu-int8"
    damage(_export_of(damaged_cache) / INT8_MODEL)
    assert load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8").spec.engine == "onnx-cpu"
    assert load_encoder(DEFAULT_MODEL, None, "cpu", damaged_cache, 2, "int8", jury).spec.engine == "onnx-cpu-int8"


def test_agreement() -> None:
    """Agreement is the share of examples that others of their task give the same label under both encoders."""

    class Axes(HashingEncoder):
        """A window's vector is the axis of its first token; one axis for all when it can't tell them apart."""

        def __init__(self, tokens: Sequence[int]) -> None:
            super().__init__()
            self._tokens = list(tokens)

        def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:  # noqa: ARG002 - of the protocol
            vectors = np.zeros((len(windows), self.spec.dimension), np.float32)
            for row, window in zip(vectors, windows, strict=True):
                row[self._tokens.index(int(window[0])) if self._tokens else 0] = 1
            return vectors

    telling = Axes([int(tokens[0]) for tokens in HashingEncoder().tokenize(["x", "y"])])
    examples = [Labelled("t", label, f"{word} {i}") for word, label in (("x", "a"), ("y", "b")) for i in range(8)]
    other_task = [Labelled("u", "c", "x 1"), Labelled("u", "c", "y 1")]
    assert compare(telling, telling, Jury(examples + other_task, _nearest_others)) == Agreement(1.0, 18, 1.0)
    # All are as near as any: the first ones decide, which have label a.
    assert compare(telling, Axes([]), Jury(examples, _nearest_others)) == Agreement(0.5, 16, 0.5)
    assert compare(telling, telling, Jury([], _nearest_others)) == Agreement(0.0, 0, 0.0)
