#!/usr/bin/env bash
# An aarch64 Python with what the ONNX self-test needs, unpacked into a folder for qemu-aarch64. No root, nothing installed.
#
#   tests/export/aarch64_root.sh FOLDER
#   CXR_AARCH64_ROOT=FOLDER python -m pytest tests/export/test_emulated_cpu.py -k aarch64
#
# Needs Debian's apt-get and dpkg, a network, and Python 3.11's pip (PYTHON). Packages come from Debian bookworm, wheels from PyPI;
# ONNX Runtime 1.29 and later crash in emulation (seen with 1.29 and 1.32), 1.20.1 does not.
set -euo pipefail

folder=${1:?"usage: $0 FOLDER"}
python=${PYTHON:-python3}
mkdir -p "$folder" && folder=$(cd "$folder" && pwd)
mkdir -p "$folder"/apt/{state/lists/partial,cache/archives/partial,packages} "$folder"/wheels "$folder"/site-packages
touch "$folder/apt/state/status"
# an apt of its own: the system's lists and architectures stay as they are
cat > "$folder/apt/conf" <<END
Dir::State "$folder/apt/state";
Dir::State::status "$folder/apt/state/status";
Dir::Cache "$folder/apt/cache";
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "$folder/apt/none";
APT::Architecture "arm64";
APT::Architectures "arm64";
Acquire::Languages "none";
END
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" \
    > "$folder/apt/sources.list"
apt-get -q -c "$folder/apt/conf" update
(
    cd "$folder/apt/packages"
    apt-get -q -c "$folder/apt/conf" download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 \
        libgcc-s1 libstdc++6 libexpat1 zlib1g libssl3 libffi8 liblzma5 libbz2-1.0 libsqlite3-0 libuuid1
)
for package in "$folder"/apt/packages/*.deb; do dpkg -x "$package" "$folder"; done
"$python" -m pip download -q --only-binary=:all: --python-version 3.11 --implementation cp \
    --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux_2_28_aarch64 \
    -d "$folder/wheels" onnxruntime==1.20.1 numpy==1.26.4 msgspec pillow click rich pydicom
for wheel in "$folder"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$folder/site-packages"; done
echo "Ready: CXR_AARCH64_ROOT=$folder"
