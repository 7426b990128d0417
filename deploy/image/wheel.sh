#!/bin/sh
# Builds nearvote's wheel, the same bytes from the same sources: wheel.sh FOLDER
set -eu
folder=$1
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1767225600}"
cd "$(dirname "$0")/../.."
python3 -m pip wheel --quiet --no-cache-dir --no-deps --wheel-dir "$folder" .
