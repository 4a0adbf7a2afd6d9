// Reset, vector table, and the report of a fault.
#include "board.h"
#include "mps2.h"

extern uint32_t _estack, _sidata, _sdata, _edata, _sbss, _ebss;
int main(void);

__attribute__((noreturn)) void Reset_Handler(void) {
    for (uint32_t *s = &_sidata, *d = &_sdata; d < &_edata;) {
        *d++ = *s++;
    }
    for (uint32_t *d = &_sbss; d < &_ebss;) {
        *d++ = 0;
    }
    SCB_SHCSR |= 7u << 16; // enable MemManage, BusFault and UsageFault, which otherwise become HardFault
    main();
    board_reset(CAUSE_HARD);
}

static void print(const char *s) {
    for (; *s; ++s) {
        uart_put(UART_CONSOLE, *s);
    }
}

static void print_hex(const char *name, uint32_t v) {
    print(name);
    for (int shift = 28; shift >= 0; shift -= 4) {
        uart_put(UART_CONSOLE, "0123456789abcdef"[v >> shift & 15]);
    }
}

__attribute__((used, noreturn)) void fault_report(uint32_t *frame) {
    uint32_t ipsr;
    __asm volatile ("mrs %0, ipsr" : "=r" (ipsr));
    print_hex("\r\nFAULT exception ", ipsr);
    print_hex(" cfsr ", SCB_CFSR);
    print_hex(" pc ", frame[6]);
    print_hex(" lr ", frame[5]);
    print("\r\n");
    uart_flush(UART_CONSOLE);
    board_reset(CAUSE_FAULT);
}

__attribute__((naked)) void Fault_Handler(void) {
    __asm volatile ("tst lr, #4\nite eq\nmrseq r0, msp\nmrsne r0, psp\nb fault_report");
}

// First expiry of the watchdog, at half of its timeout. Without a feed the second expiry resets the board.
void NMI_Handler(void) {
    board_set_next_cause(CAUSE_WATCHDOG);
}

void Spurious_Handler(void) {
}

void timer0_isr(void);
void timer1_isr(void);
void dualtimer_isr(void);
void uart0_isr(void);
void uart1_isr(void);
void uart2_isr(void);
void uart3_isr(void);
void uart4_isr(void);

typedef void (*vector_t)(void);
const vector_t vectors[16 + 32] __attribute__((section(".vectors"), used)) = {
    [0] = (vector_t)&_estack,
    [1] = Reset_Handler,
    [2] = NMI_Handler,
    [3 ... 6] = Fault_Handler,
    [7 ... 47] = Spurious_Handler,
    [16 + IRQ_UART0_RX] = uart0_isr,
    [16 + IRQ_UART1_RX] = uart1_isr,
    [16 + IRQ_UART2_RX] = uart2_isr,
    [16 + IRQ_UART3_RX] = uart3_isr,
    [16 + IRQ_UART4_RX] = uart4_isr,
    [16 + IRQ_TIMER0] = timer0_isr,
    [16 + IRQ_TIMER1] = timer1_isr,
    [16 + IRQ_DUALTIMER] = dualtimer_isr,
};
