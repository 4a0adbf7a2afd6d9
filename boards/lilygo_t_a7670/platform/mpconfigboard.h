// Configuration of this board for MicroPython's esp32 port.
#define MICROPY_HW_BOARD_NAME "Patrolink on LilyGO T-A7670"
#define MICROPY_HW_MCU_NAME "ESP32"
#define MICROPY_VFS_ROM (1)
#define MICROPY_PY_CRYPTOLIB_CTR (1)
#define MICROPY_PY_DEFLATE_COMPRESS (1)
// The link is the modem's: no radio, no threads.
#define MICROPY_PY_BLUETOOTH (0)
#define MICROPY_PY_ESPNOW (0)
