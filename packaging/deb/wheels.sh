#!/bin/bash
# wheels.sh PYTHON DIRECTORY: have a wheel of dockyard, of all it needs in the versions of requirements.lock, and of pip,
# for every Python that a Debian we support has. What is compiled comes as the registry has it built.
set -euo pipefail
python=$1 wheels=$2
cd "$(dirname "$0")/../.."
versions=(3.11 3.13)

pip() { "$python" -m pip --quiet --disable-pip-version-check "$@" 2> >(grep -v '^WARNING: Location' >&2); }
mkdir -p "$wheels"
pip wheel --constraint requirements.lock --wheel-dir "$wheels" . pip
platforms=()
for glibc in {17..36}; do platforms+=(--platform "manylinux_2_${glibc}_$(uname -m)"); done
for wheel in "$wheels"/*.whl; do
  name=$(basename "$wheel")
  case $name in *-none-any.whl) continue ;; esac
  package=${name%%-*} rest=${name#*-}
  for version in "${versions[@]}"; do
    pip download --no-deps --only-binary=:all: --dest "$wheels" --implementation cp --python-version "$version" \
      --abi "cp${version/./}" --abi abi3 --abi none \
      "${platforms[@]}" --platform "manylinux2014_$(uname -m)" "$package==${rest%%-*}"
  done
done
