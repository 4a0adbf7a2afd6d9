#!/bin/bash
# Build the firmware of this board, with the agent as frozen modules: images/rpi_pico/firmware.bin in the folder PATROLINK_BUILD,
# by default build/ of the checkout. It takes agent images of the release keys in the file PATROLINK_RELEASE_TRUST, by
# default of none. Nothing is built if the inputs have not changed. Exit code 4: a tool is missing.
set -euo pipefail
. "$(dirname "$0")/../port_recipe.sh"

need_arm_compiler
need_tools arm-none-eabi-g++:gcc-arm-none-eabi cmake:cmake ninja:ninja-build dpkg-deb:dpkg
stage_agent

recipe=$( (cd "$board_dir" && sha256sum sources.lock build.sh ../port_recipe.sh ../debian_sources.sh
           find platform -type f | LC_ALL=C sort | xargs sha256sum
           arm-none-eabi-gcc --version | head -1; "$mpy_cross" --version) | sha256sum | cut -d' ' -f1)
key=$( (echo "$recipe"; cd "$agent" && find . -type f | LC_ALL=C sort | xargs sha256sum) | sha256sum | cut -d' ' -f1)
if [ -f "$out/firmware.bin" ] && [ "$(cat "$out/key" 2>/dev/null)" = "$key" ]; then exit 0; fi

# --- changes to the sources: this board has no TLS and no C++ ---
unpack_sources
sdk=$work/pico-sdk-source
sed -i -e 's/^set(MICROPY_SSL_MBEDTLS ON)$//' -e '/^    mbedtls\/mbedtls_port.c$/d' "$micropython/ports/rp2/CMakeLists.txt"
sed -i '/new_delete.cpp$/d' "$sdk/src/rp2_common/pico_cxx_options/CMakeLists.txt"
rm -rf "$micropython/lib/tinyusb"
ln -s ../../tinyusb-source "$micropython/lib/tinyusb"

export CFLAGS="-ffile-prefix-map=$work/= -ffile-prefix-map=$board_dir/=" CXXFLAGS="-ffile-prefix-map=$work/=" ASMFLAGS="-ffile-prefix-map=$work/="
compile() {
  cmake -S "$micropython/ports/rp2" -B "$work/port" -G Ninja -DPICO_NO_PICOTOOL=1 -DMICROPY_BOARD="$board" \
    -DMICROPY_BOARD_DIR="$board_dir/platform" -DMBEDTLS="$work/mbedtls" -DMICROPY_MANIFEST_AGENT="$agent" \
    -DPICO_SDK_PATH_OVERRIDE="$sdk" \
  && ninja -C "$work/port"
}
build_port compile
value() { sed -n "s/^#define $1 (\\([0-9]*\\).*/\\1/p" "$board_dir/platform/mpconfigboard.h"; }
limit=$(((2048 - 8 - 2 * $(value UPDATE_SLOT_KB) - $(value MICROPY_HW_FLASH_STORAGE_BYTES)) * 1024))
[ "$(stat -c %s "$work/port/firmware.bin")" -le "$limit" ] || { info "error: the firmware has more than $limit bytes, where the update area begins"; exit 1; }
cp "$work/port/firmware.bin" "$out/firmware.new" && mv "$out/firmware.new" "$out/firmware.bin"
echo "$key" >"$out/key"
report_image
