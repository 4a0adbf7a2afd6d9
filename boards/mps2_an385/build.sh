#!/bin/bash
# Build the firmware image of this board, with the agent as frozen modules: images/mps2_an385/firmware.elf in the folder
# PATROLINK_BUILD, by default build/ of the checkout. It takes agent images of the release keys in the file
# PATROLINK_RELEASE_TRUST, by default of the key of the tests. Nothing is built if the inputs have not changed. Exit code 4: a tool is missing.
set -euo pipefail
board_dir=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$board_dir/../.." && pwd)
build=${PATROLINK_BUILD:-$root/build}
out=$build/images/mps2_an385
agent=$out/agent
downloads=$build/download/debian
. "$root/boards/debian_sources.sh"

need_arm_compiler
need_tools make:make gcc:gcc
[ -d "$root/build/device-lib/umqtt" ] || { info "error: build/device-lib is missing; run: make device-lib"; exit 2; }

# One build at a time. A build that had to wait finds an up-to-date image.
mkdir -p "$out"
exec 9>"$out/lock"
flock 9

# --- frozen modules: the agent without modules that only processes use ---
python3 "$root/boards/firmware_sources.py" "$agent"
python3 "$root/boards/platform_module.py" "$agent" mps2_an385 "${PATROLINK_RELEASE_TRUST:-$board_dir/release.pem}"

recipe=$( (cd "$board_dir" && sha256sum sources.lock build.sh ../debian_sources.sh; find port -type f | LC_ALL=C sort | xargs sha256sum
           arm-none-eabi-gcc --version | head -1) | sha256sum | cut -d' ' -f1)
key=$( (echo "$recipe"; cd "$agent" && find . -type f | LC_ALL=C sort | xargs sha256sum) | sha256sum | cut -d' ' -f1)
if [ -f "$out/firmware.elf" ] && [ "$(cat "$out/key" 2>/dev/null)" = "$key" ]; then exit 0; fi

work=$out/work
mkdir -p "$work"
fetch_sources "$board_dir/sources.lock" "$work"

# --- build: from scratch if the recipe has changed, which make does not detect, or the checkout has moved, of which
# names of the old place would stay in the image; otherwise incremental ---
recipe="$recipe $board_dir"
[ "$(cat "$work/recipe" 2>/dev/null)" = "$recipe" ] || rm -rf "$work/port" "$work/recipe"
export SOURCE_DATE_EPOCH=1744675200 PYTHONHASHSEED=0 LC_ALL=C MICROPY_GIT_TAG=v1.25.0 MICROPY_GIT_HASH=v1.25.0
jobs=$(nproc)
log=$out/build.log
info "building the firmware (log: ${log#"$root"/})"
{ make -s -C "$work/micropython/mpy-cross" -j"$jobs" \
  && make -s -C "$board_dir/port" -j"$jobs" BUILD="$work/port" TOP="$work/micropython" MBEDTLS="$work/mbedtls" AGENT="$agent"; } \
  >"$log" 2>&1 || { tail -20 "$log" >&2; info "error: the firmware build failed"; exit 1; }
echo "$recipe" >"$work/recipe"
cp "$work/port/firmware.elf" "$out/firmware.new" && mv "$out/firmware.new" "$out/firmware.elf" # running boards keep the old file
echo "$key" >"$out/key"
info "$(tail -1 "$log" | awk '{print $1}') bytes of code and data in ${out#"$root"/}/firmware.elf, sha256 $(sha256sum "$out/firmware.elf" | cut -c1-16)"
