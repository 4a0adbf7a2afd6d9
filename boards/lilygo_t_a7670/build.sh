#!/bin/bash
# Build the firmware of this board, with the agent as frozen modules: images/lilygo_t_a7670/firmware.bin in the folder
# PATROLINK_BUILD, by default build/ of the checkout: boot loader, partition table and MicroPython, from address 0x1000. It takes
# agent images of the release keys in the file PATROLINK_RELEASE_TRUST, by default of none. It needs ESP-IDF 5.4, exported into the
# environment. Exit code 4: a tool is missing.
set -euo pipefail
. "$(dirname "$0")/../port_recipe.sh"

case "$(idf.py --version 2>/dev/null || true)" in
  *v5.4*) ;;
  *) info "error: ESP-IDF 5.4 is missing; install it, run its export.sh in this shell, then repeat the command"; exit 4 ;;
esac
need_tools
stage_agent

unpack_sources
port=$micropython/ports/esp32
sed -i 's/set(MICROPY_PY_BTREE ON)/set(MICROPY_PY_BTREE OFF)/' "$port/esp32_common.cmake" # its sources are not there
cp "$board_dir/platform/partitions.csv" "$port/partitions-patrolink.csv"

compile() {
  idf.py -C "$port" -B "$work/port" -D MICROPY_BOARD="$board" -D MICROPY_BOARD_DIR="$board_dir/platform" \
    -D MICROPY_MANIFEST_AGENT="$agent" build \
  && python3 "$port/makeimg.py" "$work/port/sdkconfig" "$work/port/bootloader/bootloader.bin" \
    "$work/port/partition_table/partition-table.bin" "$work/port/micropython.bin" "$out/firmware.bin" "$out/firmware.uf2"
}
build_port compile
report_image
