#!/bin/bash
# uninstall.sh DESTDIR PREFIX: take away what `make install` has laid out. Images, volumes and records
# (/var/lib/dockyard) and /etc/dockyard stay.
set -euo pipefail
destdir=${1%/} prefix=${2%/}
destdir=${destdir:+$(realpath -m "$destdir")}
cd "$(dirname "$0")"
if [[ -z $destdir && -d /run/systemd/system ]]; then  # containers first: nobody would be left to look after them
  systemctl disable --quiet --now dockyard-shutdown.service dockyard.service dockyard.socket 2>/dev/null || true
  systemctl stop dockyard.slice 2>/dev/null || true
fi
bash tree.sh --list "$prefix" | grep -v '^/etc/' | while read -r path; do rm -f "$destdir$path"; done
rm -rf "$destdir$prefix/lib/dockyard" "$destdir$prefix/share/doc/dockyard"
for made in lib/systemd/{system,} lib/{sysusers,tmpfiles}.d share/{bash-completion/completions,zsh/vendor-completions} \
  share/fish/vendor_completions.d share/{bash-completion,zsh,fish}; do
  rmdir --ignore-fail-on-non-empty "$destdir$prefix/$made" 2>/dev/null || true
done
if [[ -z $destdir && -d /run/systemd/system ]]; then systemctl daemon-reload; fi
