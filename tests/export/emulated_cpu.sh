#!/usr/bin/env bash
# The ONNX artifacts of a bundle on plainer CPUs than this one, emulated. Opt-in: it takes minutes.
#
#   tests/export/emulated_cpu.sh BUNDLE [ARTIFACT...]
#
# CPUS names the CPUs (default: Nehalem Haswell), OPTIONS more options of `edge-runtime selftest`, such as --json.
# Needs qemu-x86_64 (Debian: apt-get install qemu-user) and a Python with the base install, named by PYTHON. ONNX Runtime
# has no switch that masks CPU features, so the whole process is emulated. Nehalem has no AVX; Haswell has AVX2 and no
# VNNI, where products of uint8 and int8 saturate. numpy's OpenBLAS takes the emulated Nehalem for a CPU with AVX and dies:
# it is told. What the self-test says of the CPU's name comes from the real one.
set -euo pipefail

bundle=${1:?"usage: $0 BUNDLE [ARTIFACT...]"}
shift
python=$(readlink -f "$(command -v "${PYTHON:-python3}")")
command -v qemu-x86_64 >/dev/null || { echo "qemu-x86_64 is not installed: apt-get install qemu-user" >&2; exit 1; }
artifacts=("$@")
[ ${#artifacts[@]} -gt 0 ] || artifacts=(onnx-fp32 onnx-int8)
options=()
for name in "${artifacts[@]}"; do options+=(--artifact "$name"); done
# readlink leaves a virtual environment behind: its packages are given by path
packages=$("${PYTHON:-python3}" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')

failed=0
for cpu in ${CPUS:-Nehalem Haswell}; do
    echo "== $cpu"
    PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1 OPENBLAS_CORETYPE=Nehalem \
        qemu-x86_64 -cpu "$cpu" "$python" -m edge_runtime selftest "$bundle" "${options[@]}" --threads 1 ${OPTIONS:-} || failed=1
done
exit $failed
