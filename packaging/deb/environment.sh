#!/bin/sh
# environment.sh VERSION: make the virtual environment of this version for this host's Python, of the wheels that the
# package brought, and put it in the place of the one before in one step; that one stays until `environment.sh --tidy`.
# Nothing is fetched. Does nothing if it is there.
set -e
cd /usr/lib/dockyard

if [ "$1" = --tidy ]; then
  for old in venv-*; do [ "$old" = "$(readlink venv)" ] || rm -rf "$old"; done
  exit 0
fi
python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
wanted="venv-$1-py$python"
if [ "$(readlink venv)" != "$wanted" ] || ! venv/bin/python -c 'import services.ctl.main' 2>/dev/null; then
  rm -rf "$wanted"
  python3 -m venv --without-pip "$wanted"
  PIP_CONFIG_FILE=/dev/null "$wanted/bin/python" "$(echo wheels/pip-*.whl)/pip" install --quiet --no-cache-dir --no-index --find-links wheels \
    --disable-pip-version-check --root-user-action=ignore "dockyard==$1"
  ln -sfn "$wanted" venv.new
  mv -T venv.new venv
fi
