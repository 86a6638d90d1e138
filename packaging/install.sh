#!/bin/bash
# install.sh PACKAGE...: install those that are missing; and the docker command, taken as it is if there is one.
set -euo pipefail

command -v apt-get >/dev/null || { echo "dockyard is set up by apt-get, on Debian 12 or 13"; exit 1; }
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"; }

missing=()
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
command -v docker >/dev/null || docker=wanted
[[ ${missing[*]} || ${docker:-} ]] || exit 0

echo "installing:" "${missing[@]}" ${docker:+docker}
apt update
if [[ ${docker:-} ]]; then
  if apt-cache show docker-cli >/dev/null 2>&1; then missing+=(docker-cli); else missing+=(docker.io); fi
fi

# nothing that comes along (a dockerd) is started
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
fi
apt install -y --no-install-recommends "${missing[@]}" >/dev/null

# nor at the next boot: the tests run a registry of their own
if [[ " ${missing[*]} " == *" docker-registry "* ]]; then systemctl disable --quiet docker-registry 2>/dev/null || true; fi
