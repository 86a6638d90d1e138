#!/bin/bash
# tree.sh DESTDIR PREFIX PROGRAM: lay out all that an installation has beside its virtual environment
# (PREFIX/lib/dockyard/venv). PROGRAM: a dockyard that runs here, which prints its completions.
# tree.sh --list PREFIX: print the paths that it lays out, one a line, /etc/dockyard/dockyard.toml last.
set -euo pipefail

units=(dockyard.service dockyard.socket dockyard.slice dockyard-shutdown.service)
list() {
  printf '%s\n' "$1"/bin/dockyard "${units[@]/#/$1/lib/systemd/system/}" \
    "$1"/lib/sysusers.d/dockyard.conf "$1"/lib/tmpfiles.d/dockyard.conf "$1"/share/man/man1/dockyard.1.gz \
    "$1"/share/bash-completion/completions/dockyard "$1"/share/zsh/vendor-completions/_dockyard \
    "$1"/share/fish/vendor_completions.d/dockyard.fish "$1"/share/doc/dockyard/configuration.md \
    "$1"/share/doc/dockyard/operations.md /etc/dockyard/dockyard.toml
}
if [[ $1 == --list ]]; then list "$2"; exit; fi

destdir=${1%/} prefix=${2%/} program=$(realpath -s "$3")
destdir=${destdir:+$(realpath -m "$destdir")}
cd "$(dirname "$0")"
put() { install -D -m "${3:-644}" "$1" "$destdir$2"; }
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

# -P: nothing is taken from the directory that it happens to be called in
printf '#!/bin/sh\nexec %s/lib/dockyard/venv/bin/python -P -m services.ctl.main "$@"\n' "$prefix" >"$made/dockyard"
put "$made/dockyard" "$prefix/bin/dockyard" 755
for unit in "${units[@]}"; do
  sed "s|/usr/bin/dockyard|$prefix/bin/dockyard|" "systemd/$unit" >"$made/$unit"
  put "$made/$unit" "$prefix/lib/systemd/system/$unit"
done
put systemd/sysusers.conf "$prefix/lib/sysusers.d/dockyard.conf"
put systemd/tmpfiles.conf "$prefix/lib/tmpfiles.d/dockyard.conf"
sed "s|/usr/share/doc|$prefix/share/doc|" man/dockyard.1 | gzip -9nc >"$made/man"
put "$made/man" "$prefix/share/man/man1/dockyard.1.gz"
for shell in bash:bash-completion/completions/dockyard zsh:zsh/vendor-completions/_dockyard \
  fish:fish/vendor_completions.d/dockyard.fish; do
  _DOCKYARD_COMPLETE=source_${shell%%:*} "$program" >"$made/completion"
  put "$made/completion" "$prefix/share/${shell#*:}"
done
put ../docs/configuration.md "$prefix/share/doc/dockyard/configuration.md"
put ../docs/operations.md "$prefix/share/doc/dockyard/operations.md"
[[ -e $destdir/etc/dockyard/dockyard.toml ]] || put dockyard.toml /etc/dockyard/dockyard.toml
