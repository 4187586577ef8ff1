#!/usr/bin/env bash
# Pictures that are no radiographs, from Debian's packages, for refusal_rates.py: OUT/fit and OUT/test, each with
# photographs and pages of documents, of different packages. Needs apt-get, dpkg and pdftoppm (poppler-utils).
#     benchmarks/collect_pictures.sh OUT
set -euo pipefail
out=$(realpath -m "${1:?usage: collect_pictures.sh OUT}")
mkdir -p "$out/packages" "$out"/{fit,test}/{photographs,documents} "$out/test/pictures-of-manuals"
cd "$out/packages"

unpack() {
    [ -d "$1" ] || { apt-get download -qq "$1" && dpkg -x "$1"_*.deb "$1"; }
}

pictures() { # folder, packages: under the package's name and a number
    for package in "${@:2}"; do
        unpack "$package"
        number=0
        find "$package" -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' -o -iname '*.webp' -o -iname '*.tif*' \) \
            ! -iname '*screenshot*' | sort | while read -r file; do
            number=$((number + 1))
            cp "$file" "$out/$1/$package-$number.${file##*.}"
        done
    done
}

pages() { # folder, every n-th page, pages of a file at most, packages
    for package in "${@:4}"; do
        unpack "$package"
        find "$package" -type f -name '*.pdf.gz' -exec gunzip -kf {} +
        find "$package" -type f -name '*.pdf' | sort | while read -r file; do
            for ((page = 0; page < $3; page++)); do
                first=$((2 + page * $2))
                pdftoppm -r 60 -gray -f "$first" -l "$first" -png "$file" "$out/$1/$package-$(basename "$file" .pdf)-$first" 2>/dev/null || true
            done
        done
    done
}

pictures fit/photographs plasma-workspace-wallpapers mate-backgrounds
pages fit/documents 7 7 r-doc-pdf octave-doc
pictures test/photographs lomiri-wallpapers lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 ukui-wallpapers gnome-backgrounds
pictures test/pictures-of-manuals imagemagick-6-doc python3-skimage
pages test/documents 4 16 gnuplot-doc developers-reference maint-guide debian-history
for folder in "$out"/{fit,test}/*; do
    echo "$folder: $(find "$folder" -type f | wc -l)"
done
