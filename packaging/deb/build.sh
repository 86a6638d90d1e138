#!/bin/bash
# build.sh PYTHON OUTPUT: build OUTPUT/dockyard_VERSION_ARCHITECTURE.deb. Needs dpkg-deb, and PYTHON with dockyard in it.
set -euo pipefail
python=$(realpath -s "$1") output=$(realpath -m "$2")
cd "$(dirname "$0")"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' ../../pyproject.toml)
architecture=$(dpkg --print-architecture)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"

bash ../tree.sh "$tree" /usr "$(dirname "$python")/dockyard"
bash wheels.sh "$python" "$tree/usr/lib/dockyard/wheels"
install -m 755 environment.sh "$tree/usr/lib/dockyard/environment.sh"
mkdir "$tree/DEBIAN"
sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$(du -sk "$tree" | cut -f1)/" control >"$tree/DEBIAN/control"
install -m 755 postinst prerm postrm "$tree/DEBIAN"
install -m 644 triggers conffiles "$tree/DEBIAN"
mkdir -p "$output"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)} \
  dpkg-deb --root-owner-group -Zxz --build "$tree" "$output/dockyard_${version}_${architecture}.deb"
