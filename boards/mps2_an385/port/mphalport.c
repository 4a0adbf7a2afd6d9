// Console and delays.
#include "py/mphal.h"
#include "py/runtime.h"
#include "py/stream.h"

uintptr_t mp_hal_stdio_poll(uintptr_t flags) {
    return (uart_any(UART_CONSOLE) ? flags & MP_STREAM_POLL_RD : 0)
        | (uart_ready(UART_CONSOLE) ? flags & MP_STREAM_POLL_WR : 0);
}

int mp_hal_stdin_rx_chr(void) {
    for (;;) {
        int c = uart_get(UART_CONSOLE);
        if (c >= 0) {
            return c;
        }
        mp_event_wait_indefinite();
    }
}

mp_uint_t mp_hal_stdout_tx_strn(const char *str, size_t len) {
    for (size_t i = 0; i < len; ++i) {
        uart_put(UART_CONSOLE, str[i]);
    }
    uart_flush(UART_CONSOLE);
    return len;
}

void uart_break(void) {
    mp_sched_keyboard_interrupt();
}

void mp_hal_delay_ms(mp_uint_t ms) {
    uint64_t end = board_cycles() + (uint64_t)ms * CYCLES_PER_MS;
    for (;;) {
        mp_event_handle_nowait();
        int64_t left = end - board_cycles();
        if (left <= 0) {
            return;
        }
        if (left >= CYCLES_PER_MS) {
            mp_event_wait_ms(left / CYCLES_PER_MS);
        }
    }
}

void mp_hal_delay_us(mp_uint_t us) {
    uint64_t end = board_cycles() + (uint64_t)us * CYCLES_PER_US;
    if (us >= 2000) {
        mp_hal_delay_ms(us / 1000 - 1);
    }
    while ((int64_t)(end - board_cycles()) > 0) {
    }
}
