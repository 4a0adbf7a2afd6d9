#include "board.h"
#include "mps2.h"
#include "shared/runtime/interrupt_char.h"

#define MICROPY_BEGIN_ATOMIC_SECTION() irq_off()
#define MICROPY_END_ATOMIC_SECTION(s) irq_restore(s)
#define MICROPY_INTERNAL_WFE(timeout_ms) board_wait(timeout_ms)

static inline mp_uint_t mp_hal_ticks_ms(void) {
    return board_cycles() / CYCLES_PER_MS;
}

static inline mp_uint_t mp_hal_ticks_us(void) {
    return board_cycles() / CYCLES_PER_US;
}

static inline mp_uint_t mp_hal_ticks_cpu(void) {
    return board_cycles();
}

static inline uint64_t mp_hal_time_ns(void) {
    return board_rtc_us() * 1000;
}
