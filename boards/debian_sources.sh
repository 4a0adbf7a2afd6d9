# Sourced by the firmware recipes: tools, and sources from Debian's archive, in the versions of a board's sources.lock.
# The recipe sets downloads: a folder for files that were downloaded.
info() { echo "$@" >&2; }

# need_tools command:package...: end with exit code 4 if one of them is missing.
need_tools() {
  local pair
  for pair in xz:xz-utils python3:python3 "$@"; do
    command -v "${pair%%:*}" >/dev/null || { info "error: ${pair%%:*} is missing; apt-get install ${pair#*:}"; exit 4; }
  done
}

# need_arm_compiler: end with exit code 4 if the compiler for Arm, or its newlib, is missing.
need_arm_compiler() {
  need_tools arm-none-eabi-gcc:gcc-arm-none-eabi
  echo '#include <math.h>' | arm-none-eabi-gcc -E -xc - >/dev/null 2>&1 \
    || { info "error: newlib is missing; apt-get install libnewlib-arm-none-eabi"; exit 4; }
}

# fetch package version suite file sha256: a source package, or a binary one with sources in /usr/src/*/. It works with separate
# package lists, so that the apt state of this machine does not change.
fetch() {
  [ -f "$downloads/$4" ] && echo "$5  $downloads/$4" | sha256sum -c --quiet - 2>/dev/null && return
  command -v apt-get >/dev/null || { info "error: apt-get is missing; copy $4 of Debian's $1 $2 to $downloads"; exit 4; }
  local mirror
  mirror=$(grep -hoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -1 || true)
  [ -n "$mirror" ] || { info "error: no Debian mirror in /etc/apt; copy $4 of Debian's $1 $2 to $downloads"; exit 4; }
  mkdir -p "$downloads"/{lists/partial,cache/archives/partial}
  local kind=deb-src get="source --download-only"
  [ "${4%.deb}" = "$4" ] || { kind=deb get=download; }
  echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $3 main" >"$downloads/$3.list"
  local apt_options="-o Dir::Etc::sourcelist=$downloads/$3.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$downloads/lists
    -o Dir::Cache=$downloads/cache -o APT::Get::List-Cleanup=0"
  info "fetching $1 $2"
  (cd "$downloads" && apt-get $apt_options update -qq && apt-get $apt_options $get -qq "$1=$2") >"$downloads/log" 2>&1 \
    || { cat "$downloads/log" >&2; info "error: $1 $2 could not be downloaded from Debian's $3"; exit 4; }
  echo "$5  $downloads/$4" | sha256sum -c --quiet - || { info "error: $4 does not have the sha256 of sources.lock"; exit 1; }
}

# fetch_sources lock folder: unpack each package of a sources.lock into the folder; those that are there already stay.
fetch_sources() {
  local package version suite file sum
  mkdir -p "$downloads"
  exec 8>"$downloads/lock"
  flock 8 # recipes of several boards share the folder
  while read -r package version suite file sum; do
    [ "${package#\#}" = "$package" ] || continue
    fetch "$package" "$version" "$suite" "$file" "$sum"
    if [ "$(cat "$2/$package.sum" 2>/dev/null)" != "$sum" ]; then
      rm -rf "${2:?}/$package" && mkdir "$2/$package"
      case $file in
        *.deb) dpkg-deb --fsys-tarfile "$downloads/$file" | tar -x -C "$2/$package" --strip-components=4 ./usr/src ;;
        *) tar -xf "$downloads/$file" -C "$2/$package" --strip-components=1 ;;
      esac
      echo "$sum" >"$2/$package.sum"
    fi
  done <"$1"
  exec 8>&-
}
