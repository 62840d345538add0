# Sourced by the fetch-… scripts: packages from Debian, checked, without root. Sets $cache and $work, defines the
# functions below; the script's own name is in $0.
# shellcheck shell=bash
export LC_ALL=C  # apt's messages are read below

die() { printf '%s: %s\n' "${0##*/}" "$1" >&2; exit "${2:-1}"; }
say() { printf '%s\n' "$1" >&2; }
usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; }

cache=${XDG_CACHE_HOME:-${HOME:?is not set, so there is no place for the cache}/.cache}/nacre
work=
log=

# Makes the cache and a working folder in it, on the same file system, so that results are moved in by rename(2);
# alone: of two scripts at once the second waits, and finds the first one's result.
begin() {
  local tool
  for tool in apt-get apt-cache dpkg-deb sha256sum flock; do
    command -v "$tool" >/dev/null || die "There is no $tool here: this script takes the guest from Debian's packages. With a kernel of your own, use 'nacre boot --kernel FILE'."
  done
  mkdir -p "$cache" 2>/dev/null || true
  [[ -w $cache ]] || die "Cannot write to $cache: make it writable, or set XDG_CACHE_HOME to another place."
  exec 9>"$cache/.lock"
  flock 9
  work=$(mktemp -d "$cache/.fetch-XXXXXX" 2>/dev/null) || die "Cannot write to $cache: is its disk full?"
  trap 'rm -rf "$work"' EXIT
  log=$work/log
  apt=(apt-get -o Acquire::Retries=2 -o Acquire::http::Timeout=30)
  # apt's own user cannot enter a cache of root's.
  if ((UID == 0)); then apt+=(-o APT::Sandbox::User=root); fi
}

# Ends with the sentence for a failed step, chosen by what the tool said.
explain() { # $1 = what was being done
  # The messages stand on the same disk, so a full one may have swallowed them.
  if grep -qiE 'no space left|not enough free space|disk quota' "$log" || (($(df --output=avail "$cache" | tail -n 1) < 4)); then
    die "The disk of $cache is full: free about 100 MB there, or set XDG_CACHE_HOME to another place."
  elif grep -qiE 'temporary failure resolving|could not resolve|could not connect|unable to connect|network is unreachable|connection (failed|timed out|refused)' "$log"; then
    die "Could not reach the Debian mirror while $1: check the network (or the proxy in /etc/apt), then try again."
  elif grep -qE "404 +Not Found|Hash Sum mismatch|Can't find a source|Unable to locate package" "$log"; then
    die "apt's package lists are old or missing (seen while $1): run 'sudo apt-get update', then try again."
  fi
  cat "$log" >&2
  die "Failed while $1; the messages above say why."
}

# "name=version" of what apt would install now; nothing if apt does not know the package.
candidate() { apt-cache policy "$1" | sed -nE 's/^  Candidate: ([0-9].*)/'"$1"'=\1/p'; }

# The kernel package that a metapackage stands for: "name=version".
resolve() {
  apt-cache show --no-all-versions "$1" 2>/dev/null |
    sed -nE 's/^Depends: (linux-image-[^ ,]+) \(= ([^)]+)\).*/\1=\2/p'
}

# Downloads package $1 ("name=version"), checks it against apt's own hash and leaves its path in $deb.
download() {
  local package=$1 uri name size sum
  read -r uri name size sum < <("${apt[@]}" --print-uris download "$package" 2>"$log") || explain "asking apt for $package"
  [[ $sum == SHA256:* ]] || die "apt gives no SHA-256 for $package, so it cannot be checked: run 'sudo apt-get update', then try again."
  say "Fetching ${package%%=*} ($(((size + 999999) / 1000000)) MB) …"
  (cd "$work" && "${apt[@]}" -q download "$package") >"$log" 2>&1 || explain "fetching $package"
  deb=$work/$name
  [[ -f $deb ]] || deb=$(find "$work" -maxdepth 1 -name '*.deb' -print -quit)
  printf '%s  %s\n' "${sum#SHA256:}" "$deb" | sha256sum --check --status 2>/dev/null ||
    die "What came from ${uri//\'/} is not what Debian signed (SHA-256 differs): nothing was kept; try again."
}

# Puts packages "$2"… as a tree for a guest's initramfs at $cache/$1, unless it is there, and prints that path. The packages must be
# what a program is linked to, and what those are. All in one call of apt, which takes seconds to read its lists.
fetch_tree() {
  local tree=$cache/$1 name missing uri file size sum total=0
  local -a packages
  shift
  if [[ ! -d $tree ]]; then
    begin
    if [[ ! -d $tree ]]; then
      mapfile -t packages < <(apt-cache policy "$@" | awk '/^[^ ]/ { sub(":.*", ""); name = $0 } $1 == "Candidate:" && $2 ~ /^[0-9]/ { print name "=" $2 }')
      for name; do
        [[ " ${packages[*]}" == *" $name="* ]] || die "apt does not know the package $name: run 'sudo apt-get update', then try again."
      done
      "${apt[@]}" --print-uris download "${packages[@]}" >"$work/uris" 2>"$log" || explain "asking apt for ${tree##*/}"
      while read -r uri file size sum; do
        [[ $sum == SHA256:* ]] || die "apt gives no SHA-256 for $file, so it cannot be checked: run 'sudo apt-get update', then try again."
        printf '%s  %s\n' "${sum#SHA256:}" "$file"
        total=$((total + size))
      done <"$work/uris" >"$work/sums"
      say "Fetching ${tree##*/} and what it is linked to (${#packages[@]} packages, $(((total + 999999) / 1000000)) MB) …"
      (cd "$work" && "${apt[@]}" -q download "${packages[@]}") >"$log" 2>&1 || explain "fetching ${tree##*/}"
      # apt writes the epoch's colon in one of the two names and not in the other.
      (cd "$work" && sed 's/%3a/:/' sums | while read -r sum file; do
        [[ -f $file ]] || file=${file/:/%3a}
        printf '%s  %s\n' "$sum" "$file"
      done | sha256sum --check --status 2>/dev/null) ||
        die 'What came from the mirror is not what Debian signed (SHA-256 differs): nothing was kept; try again.'
      for file in "$work"/*.deb; do
        dpkg-deb -x "$file" "$work/tree" 2>"$log" || explain "unpacking ${file##*/}"
      done
      # The guest needs programs and the libraries named by them, not documentation or character sets.
      rm -rf "$work"/tree/usr/{share,include,lib/x86_64-linux-gnu/{gconv,engines-3,ossl-modules}} "$work"/tree/etc
      missing=$({ find "$work/tree" -type f \( -perm /111 -o -name '*.so*' \) -exec readelf -d {} + 2>/dev/null || true; } |
        sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' | sort -u |
        while read -r library; do [[ -n $(find "$work/tree" -name "$library" -print -quit) ]] || echo "$library"; done)
      [[ -z $missing ]] || die "Debian's ${tree##*/} has come to need ${missing//$'\n'/, }: please report this."
      mv "$work/tree" "$tree"
    fi
  fi
  printf '%s\n' "$tree"
}
