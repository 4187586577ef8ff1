#!/bin/sh
# The runtime on an emulated aarch64 must answer as it does on this machine. Opt-in; a minute a file.
#
#     sh tests/edge_runtime/emulated_aarch64.sh [BUNDLE [FILE...]]
#     SELFTEST=1 sh tests/edge_runtime/emulated_aarch64.sh        # the golden vectors too; many minutes
#
# Needs Debian or Ubuntu's apt-get (no root: packages are unpacked, not installed), a network, qemu-aarch64 (qemu-user),
# unzip, and an environment of ours in PYTHON (else .venv). BUNDLE is the release bundle unless named; without FILE a
# synthetic radiograph is drawn. WORK keeps what was downloaded (0.5 GB; else a folder in /tmp). ONNX Runtime is 1.26.0:
# 1.29 and later crash in emulation, and not because of us. Exit code 1 where anything differs.
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
python=${PYTHON:-"$root/.venv/bin/python"}
work=${WORK:-"${TMPDIR:-/tmp}/edge-runtime-aarch64"}
bundle=${1:-"$root/models/covidx-b1/bundle"}
[ $# -eq 0 ] || shift
for tool in apt-get dpkg qemu-aarch64 unzip; do
    command -v "$tool" >/dev/null || { echo "Error: $tool is not here (Debian: apt-get install qemu-user unzip)" >&2; exit 1; }
done

if [ ! -e "$work/complete" ]; then
    rm -rf "$work"
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/root" "$work/site"
    : >"$work/state/status"
    apt() {
        apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$work/state" \
            -o Dir::State::status="$work/state/status" -o Dir::Cache="$work/cache" "$@"
    }
    apt update
    python_of_debian=$(apt-cache depends python3-minimal | sed -n 's/.*Depends: \(python3\.[0-9]*\)-minimal$/\1/p' | head -n 1)
    apt install --download-only --yes --no-install-recommends "$python_of_debian-minimal" "lib$python_of_debian-stdlib" \
        libstdc++6 libgomp1 zlib1g >/dev/null
    for package in "$work"/cache/archives/*.deb; do dpkg -x "$package" "$work/root"; done
    platforms=
    for glibc in 2014 _2_17 _2_27 _2_28; do platforms="$platforms --platform manylinux${glibc}_aarch64"; done
    # shellcheck disable=SC2086
    "$python" -m pip download --quiet --only-binary :all: --dest "$work/wheels" --implementation cp \
        --python-version "${python_of_debian#python}" $platforms onnxruntime==1.26.0 numpy pillow pydicom pyjpegls \
        pylibjpeg pylibjpeg-openjpeg imagecodecs msgspec click cryptography rich
    for wheel in "$work"/wheels/*.whl; do unzip -qo "$wheel" -d "$work/site"; done
    echo "$python_of_debian" >"$work/complete"
fi
if [ $# -eq 0 ]; then
    (cd "$root/benchmarks" && "$python" -c "
import sys
from pathlib import Path
from folder_throughput import write_film
write_film(Path(sys.argv[1]), 512, 1)" "$work/film.dcm")
    set -- "$work/film.dcm"
fi

there() {
    PYTHONHOME="$work/root/usr" PYTHONPATH="$work/site:$root" PYTHONDONTWRITEBYTECODE=1 \
        qemu-aarch64 -L "$work/root" "$work/root/usr/bin/$(cat "$work/complete")" -m edge_runtime "$@"
}
artifact=$("$python" -m edge_runtime info "$bundle" --json | "$python" -c "
import json, sys
print(next(a['name'] for a in json.load(sys.stdin)['artifacts'] if a['format'] == 'onnx'))")
echo "== $artifact of $bundle, on aarch64 by qemu-user"
[ -z "${SELFTEST:-}" ] || there selftest "$bundle" --artifact "$artifact"
there predict "$bundle" "$@" --artifact "$artifact" --json >"$work/there.jsonl"
"$python" -m edge_runtime predict "$bundle" "$@" --artifact "$artifact" --json >"$work/here.jsonl"
"$python" - "$work/here.jsonl" "$work/there.jsonl" <<'END'
import json, sys
here, there = ([json.loads(line) for line in open(name)] for name in sys.argv[1:])
assert len(here) == len(there) > 0
largest = 0.0
for a, b in zip(here, there):
    assert (a["file"], a["status"], a["reason"], a["label"]) == (b["file"], b["status"], b["reason"], b["label"]), (a, b)
    pairs = [(a["probabilities"][k], b["probabilities"][k]) for k in a["probabilities"] or ()]
    pairs += [(a["gate_score"], b["gate_score"])] if a["gate_score"] is not None else []
    largest = max([largest, *(abs(x - y) for x, y in pairs)])
print(f"{len(here)} file(s): same answers, largest difference {largest:.1e}")
sys.exit(largest > 1e-4)
END
