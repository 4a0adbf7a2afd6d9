# Board definition for MicroPython's rp2 port, see ../build.sh. MBEDTLS, AGENT: its arguments.
set(PICO_BOARD "pico")
set(PICO_PLATFORM "rp2040")
set(MICROPY_FROZEN_MANIFEST ${MICROPY_BOARD_DIR}/manifest.py)

# Only digests and AES of mbedtls: TLS is the modem's business.
add_library(micropy_lib_mbedtls INTERFACE)
target_include_directories(micropy_lib_mbedtls INTERFACE ${MBEDTLS}/include)
target_compile_definitions(micropy_lib_mbedtls INTERFACE MBEDTLS_CONFIG_FILE="${MICROPY_BOARD_DIR}/mbedtls_config.h")
foreach(name aes platform_util sha1 sha256)
    target_sources(micropy_lib_mbedtls INTERFACE ${MBEDTLS}/library/${name}.c)
endforeach()
list(APPEND MICROPY_INC_CORE ${MBEDTLS}/include)
