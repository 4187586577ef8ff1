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
# scripts and pyvenv.cfg name the environment by its path, which is about to change
"$new/bin/python" - "$new" "$target" <<'END'
import pathlib, sys
old, new = (name.encode() for name in sys.argv[1:])
folder = pathlib.Path(sys.argv[1])
for path in [folder / "pyvenv.cfg", *(folder / "bin").iterdir()]:
    if path.is_file() and not path.is_symlink():
        content = path.read_bytes()
        if old in content and b"\0" not in content:
            path.write_bytes(content.replace(old, new))
END
rm -rf "$target.old"
[ ! -e "$target" ] || mv "$target" "$target.old"
mv "$new" "$target"
if ! "$target/bin/edge-runtime" --version >/dev/null; then
    rm -rf "$target"
    [ ! -e "$target.old" ] || mv "$target.old" "$target"
    fail "what was installed does not run; the old one is back" "please report it"
fi
rm -rf "$target.old"

echo "Installed: $target/bin/edge-runtime ($("$target/bin/edge-runtime" --version))"
echo "Next:      $target/bin/edge-runtime bundle install bundle.zip --to ~/bundles"
echo "           $target/bin/edge-runtime doctor ~/bundles"
