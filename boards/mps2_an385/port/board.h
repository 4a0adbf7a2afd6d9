#ifndef BOARD_H
#define BOARD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Values of machine.reset_cause().
enum { CAUSE_POWER = 1, CAUSE_HARD, CAUSE_WATCHDOG, CAUSE_DEEPSLEEP, CAUSE_SOFT, CAUSE_FAULT };

void board_init(void);
__attribute__((noreturn)) void board_reset(uint32_t cause);
__attribute__((noreturn)) void board_off(int status); // end the emulator
void board_set_next_cause(uint32_t cause);             // cause to report after a reset that the agent does not request
uint32_t board_cause(void);
uint64_t board_cycles(void);
uint64_t board_collection_cycles(uint64_t *longest);
void board_wait(int32_t timeout_ms); // sleep until an interrupt or the timeout; no timeout if negative
void board_event(void);              // end board_wait; for interrupt handlers
int64_t board_rtc_us(void);
void board_rtc_set_us(int64_t us);
uint32_t board_random(void);
uint32_t board_heap_peak(void);
int board_semihost(int op, const void *arg);

static inline uint32_t irq_off(void) {
    uint32_t s;
    __asm volatile ("mrs %0, primask\ncpsid i" : "=r" (s) :: "memory");
    return s;
}

static inline void irq_restore(uint32_t s) {
    __asm volatile ("msr primask, %0" :: "r" (s) : "memory");
}

// UART 0 is the console, 1 to 3 belong to the agent, 4 transmits the pins (panel).
enum { UART_CONSOLE = 0, UART_LAST = 3, UART_PANEL = 4, UARTS };
#define UART_RING 4096
typedef struct {
    uint32_t received, sent, overruns;
} uart_count_t;
extern uart_count_t uart_count[UARTS];
void uart_open(unsigned id, uint32_t baud, unsigned capacity, bool flow_control);
void uart_close(unsigned id);
size_t uart_any(unsigned id);
int uart_get(unsigned id); // -1 if empty
bool uart_ready(unsigned id);
void uart_put(unsigned id, uint8_t c);
void uart_flush(unsigned id);
void uart_receive(unsigned id, uint8_t c); // handle a received byte
void uart_break(void);                     // handle Ctrl-C on the console
void panel_receive(uint8_t c);

// Lock-step link; replaces the registers of the UARTs.
void link_open(void);
bool link_on(void);
void link_send(unsigned id, const uint8_t *p, size_t n);

#endif
