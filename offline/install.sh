#!/bin/sh
# Install edge-runtime from this folder, without a network:  sh install.sh [FOLDER]
# FOLDER gets an environment of its own; else ~/.local/share/edge-runtime. PYTHON names another interpreter.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
target=${1:-"$HOME/.local/share/edge-runtime"}
machine=$(uname -m)
[ "$machine" = arm64 ] && machine=aarch64
wanted=$(cat "$here/PYTHON")
python=${PYTHON:-"python$wanted"}

fail() { echo "Error: $1" >&2; echo "  remedy:   $2" >&2; exit 1; }

[ -f "$here/requirements-$machine.txt" ] || fail "there are no wheels for $machine here" \
    "make them: python offline/wheelhouse.py --machine $machine"
command -v "$python" >/dev/null || fail "$python is not installed" \
    "install Python $wanted, or make the wheels for yours (wheelhouse.py --python)"
got=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$got" = "$wanted" ] || fail "$python is Python $got, and the wheels are for $wanted" \
    "name the right one: PYTHON=/path/to/python$wanted sh install.sh"

# beside the old one, and swapped when it is whole
new="$target.new"
rm -rf "$new"
mkdir -p "$(dirname -- "$target")"
"$python" -m venv "$new" || fail "an environment cannot be made" "Debian, Ubuntu: apt-get install python$wanted-venv"
"$new/bin/python" -m pip install --quiet --no-index --find-links "$here/$machine" --require-hashes \
    --requirement "$here/requirements-$machine.txt"
"$new/bin/edge-runtime" --version >/dev/null
rm -rf "$target.old"
[ ! -e "$target" ] || mv "$target" "$target.old"
mv "$new" "$target"
# a script names its interpreter by its path, which has changed
sed -i "1s|^#!.*|#!$target/bin/python|" "$target/bin/edge-runtime"
rm -rf "$target.old"

echo "Installed: $target/bin/edge-runtime ($("$target/bin/edge-runtime" --version))"
echo "Next:      $target/bin/edge-runtime bundle install bundle.zip --to ~/bundles"
echo "           $target/bin/edge-runtime doctor ~/bundles"
