# Sourced by the tests that boot whole guests.
# shellcheck shell=bash
guests=$(cd "${BASH_SOURCE[0]%/*}/../../build/guest" 2>/dev/null && pwd) || guests=
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nacre

fail() { printf 'FAILED: %s\n' "$1"; exit 1; }

# $launcher, if there is one, runs Nacre.
# boot NACRE ENGINE FLAVOUR INITRD APPEND [OPTION…]: boots that guest; its console goes to standard output. The status is Nacre's,
# or 124 after $limit seconds.
boot() {
  local kernel=$cache/vmlinuz-$3 initrd=$guests/$4
  [[ -r $kernel && -r $initrd ]] || fail "there is no $kernel or no $4: './test release' makes them."
  timeout "${limit:-1200}" ${launcher:+"$launcher"} "$1" boot --engine "$2" --memory 512M --kernel "$kernel" --initrd "$initrd" --append "panic=-1 $5" "${@:6}" </dev/null
}

# Ends the test as skipped where this host has no such engine.
skip_without_engine() { # $1 = nacre, $2 = engine
  [[ $2 == kvm ]] || return 0
  "$1" info | grep -q '/dev/kvm is usable$' && return 0
  echo "skipped: $("$1" info | grep '^virtualization')"
  exit 77
}
