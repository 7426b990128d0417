"""Generates the gRPC stubs, and tells whether the committed ones are those of the contract.

python tests/drift.py            exits with 1 when they are not
python tests/drift.py --write    writes them
"""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROTOS = ROOT / "protos"
COMMITTED = ROOT / "service" / "nearvote" / "v1"
PACKAGE = "nearvote/v1"


def generate(folder: Path) -> Path:
    """Generates the stubs below a folder, and returns where they are."""
    scripts = Path(sys.executable).parent
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{PROTOS}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={folder}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *(str(path.relative_to(PROTOS)) for path in sorted((PROTOS / PACKAGE).glob("*.proto"))),
    ]
    subprocess.run(command, cwd=PROTOS, check=True, stderr=subprocess.DEVNULL)
    # Files without a service have nothing in their second stub.
    for path in (folder / PACKAGE).glob("*_pb2_grpc.py*"):
        if "_service_pb2_grpc" not in path.name:
            path.unlink()
    return folder / PACKAGE


def main() -> int:
    """Compares or writes."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = generate(Path(scratch))
        names = sorted({path.name for path in fresh.iterdir()} | {path.name for path in COMMITTED.glob("*_pb2*")})
        if "--write" in sys.argv:
            for name in names:
                (COMMITTED / name).unlink(missing_ok=True)
            for path in fresh.iterdir():
                shutil.copy(path, COMMITTED / path.name)
            return 0
        _, differing, missing = filecmp.cmpfiles(fresh, COMMITTED, names, shallow=False)
    stale = sorted(differing + missing)
    if stale:
        print(f"the stubs are not those of the contract: run `make proto` ({', '.join(stale)})")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
