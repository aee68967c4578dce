#!/usr/bin/env bash
# Run benchmarks/gpu.py from a folder of benchmarks/gpu_pack.py: .gpu/run.sh --minutes 10 --output OUTPUT
# PYTHON names the Python that has PyTorch, by default python3. Everything except OUTPUT is removed at the end.
set -euo pipefail
packed=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" "$packed/source/benchmarks/gpu_pack.py" "$packed" --install "$scratch/site"
mkdir "$scratch/datasets"
tar -xf "$packed/data.tar.gz" -C "$scratch/datasets"
export PYTHONPATH="$scratch/site${PYTHONPATH:+:$PYTHONPATH}" FASTREID_DATASETS="$scratch/datasets" PYTHONUNBUFFERED=1
export NUMBA_CACHE_DIR="$scratch/numba"
"$python" "$packed/source/benchmarks/gpu.py" "$@"
