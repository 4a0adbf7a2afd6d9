// Configuration of this board for MicroPython's rp2 port.
#define MICROPY_HW_BOARD_NAME "Patrolink on Raspberry Pi Pico"

// Flash, 2 MB: firmware, update area, file system. The update area is MicroPython's ROMFS partition: two boot sectors, two
// slots. UPDATE_SLOT_KB is [update] in board.toml.
#define UPDATE_SLOT_KB (384)
#define MICROPY_HW_ROMFS_BYTES ((8 + 2 * UPDATE_SLOT_KB) * 1024)
#define MICROPY_HW_FLASH_STORAGE_BYTES (600 * 1024)

// The agent has one thread.
#define MICROPY_PY_THREAD (0)
#define MICROPY_PY_CRYPTOLIB_CTR (1)
#define MICROPY_PY_DEFLATE_COMPRESS (1)

// newlib has log2f as a macro only.
#define MP_NEED_LOG2 (1)
