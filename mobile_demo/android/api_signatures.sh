#!/bin/sh
# Android's public API, as signatures, for type-checking the app's Java without an SDK:
#
#     sh mobile_demo/android/api_signatures.sh OUT/current.txt
#
# It lies in Debian's source package android-platform-frameworks-base (API 29), 45 MB, which apt-get fetches into a folder
# of its own: no root, nothing installed, the system's sources unchanged. Needs Debian, apt-get, xz and a network.
set -eu
out=${1:?"usage: $0 OUT/current.txt"}
command -v apt-get >/dev/null || { echo "Error: there is no apt-get here (Debian and its kin)" >&2; exit 1; }
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/parts" "$work/source"
cat >"$work/parts/source.sources" <<END
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: $codename
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
apt() {
    apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/parts" -o Dir::State::Lists="$work/lists" \
        -o Dir::Cache::pkgcache="" -o Dir::Cache::srcpkgcache="" -o APT::Sandbox::User="" "$@"
}
apt update
(cd "$work/source" && apt source --download-only android-platform-frameworks-base >/dev/null)
tar -xJf "$work"/source/*.orig.tar.xz -C "$work/source" api/current.txt
mkdir -p "$(dirname "$out")"
cp "$work/source/api/current.txt" "$out.part"
mv "$out.part" "$out"
