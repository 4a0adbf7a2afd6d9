// Clock, sleep, reset. Timer 0 is the free-running 25 MHz time base; timer 1 ends a sleep. There is no periodic tick.
#include "board.h"
#include "mps2.h"

#define MAGIC 0x71b0a4d5u
#define SLEEP_MAX_MS 100000

// Survives a reset, not a power cut.
static struct {
    uint32_t magic, cause;
    int64_t rtc_us;
} retained __attribute__((section(".noinit")));

static volatile uint32_t wraps;
static volatile bool event_pending;
static uint32_t reset_cause;
static int64_t rtc_offset_us;

void board_init(void) {
    TIMER0->RELOAD = TIMER0->VALUE = 0xffffffffu;
    TIMER0->CTRL = TIMER_EN_IRQ;
    NVIC_ISER0 = 1u << IRQ_TIMER0 | 1u << IRQ_TIMER1;
    if (retained.magic == MAGIC) {
        reset_cause = retained.cause;
        rtc_offset_us = retained.rtc_us;
    } else {
        reset_cause = CAUSE_POWER;
        rtc_offset_us = STRAPS->magic == STRAPS_MAGIC ? STRAPS->epoch_s * 1000000 : 0;
    }
    retained.magic = MAGIC;
    retained.cause = CAUSE_HARD;
    retained.rtc_us = rtc_offset_us;
}

void timer0_isr(void) {
    TIMER0->INTSTATUS = 1;
    ++wraps;
}

void timer1_isr(void) {
    TIMER1->CTRL = 0;
    TIMER1->INTSTATUS = 1;
    event_pending = true;
}

uint64_t board_cycles(void) {
    uint32_t s = irq_off();
    uint32_t high = wraps;
    uint32_t value = TIMER0->VALUE;
    if (TIMER0->INTSTATUS & 1) { // the timer has wrapped and its interrupt is pending
        value = TIMER0->VALUE;
        ++high;
    }
    irq_restore(s);
    return (uint64_t)high << 32 | (0xffffffffu - value);
}

void board_event(void) {
    event_pending = true;
}

void board_wait(int32_t timeout_ms) {
    uint32_t s = irq_off();
    if (!event_pending && timeout_ms != 0) {
        if (timeout_ms > 0) {
            uint32_t ms = timeout_ms > SLEEP_MAX_MS ? SLEEP_MAX_MS : timeout_ms;
            TIMER1->CTRL = 0;
            TIMER1->RELOAD = TIMER1->VALUE = ms * CYCLES_PER_MS;
            TIMER1->CTRL = TIMER_EN_IRQ;
        }
        __asm volatile ("dsb\nwfi" ::: "memory");
    }
    event_pending = false;
    irq_restore(s);
}

int64_t board_rtc_us(void) {
    return rtc_offset_us + (int64_t)(board_cycles() / CYCLES_PER_US);
}

void board_rtc_set_us(int64_t us) {
    rtc_offset_us = us - (int64_t)(board_cycles() / CYCLES_PER_US);
}

uint32_t board_cause(void) {
    return reset_cause;
}

void board_set_next_cause(uint32_t cause) {
    retained.cause = cause;
}

void board_reset(uint32_t cause) {
    irq_off();
    retained.cause = cause;
    retained.rtc_us = board_rtc_us();
    __asm volatile ("dsb" ::: "memory");
    SCB_AIRCR = 0x05fa0004u; // SYSRESETREQ
    for (;;) {
    }
}

// Arm semihosting (IHI 0052).
int board_semihost(int op, const void *arg) {
    register int r0 __asm("r0") = op;
    register const void *r1 __asm("r1") = arg;
    __asm volatile ("bkpt 0xab" : "+r" (r0) : "r" (r1) : "memory");
    return r0;
}

void board_off(int status) {
    struct { uint32_t reason, status; } arg = { 0x20026, status }; // ADP_Stopped_ApplicationExit
    irq_off();
    board_semihost(0x20, &arg); // SYS_EXIT_EXTENDED
    for (;;) {
    }
}

// Marsaglia's xorshift32, seeded from the straps so that a run is reproducible. Do not use it for keys.
uint32_t board_random(void) {
    static uint32_t x;
    if (x == 0) {
        x = (STRAPS->seed ^ 2463534242u) | 1;
    }
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return x;
}
