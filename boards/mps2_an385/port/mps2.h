// Registers of Arm's MPS2 board with the AN385 image (Arm DAI 0385D, CMSDK TRM DDI 0479), as QEMU models them.
#ifndef MPS2_H
#define MPS2_H
#include <stdint.h>

#define REG32(a) (*(volatile uint32_t *)(a))
#define CLOCK_HZ 25000000u
#define CYCLES_PER_MS (CLOCK_HZ / 1000)
#define CYCLES_PER_US (CLOCK_HZ / 1000000)

// Core (ARMv7-M).
#define NVIC_ISER0 REG32(0xE000E100u)
#define SCB_AIRCR REG32(0xE000ED0Cu)
#define SCB_SHCSR REG32(0xE000ED24u)
#define SCB_CFSR REG32(0xE000ED28u)

// 32-bit timers that count down from RELOAD.
typedef struct {
    volatile uint32_t CTRL, VALUE, RELOAD, INTSTATUS;
} timer_regs_t;
#define TIMER0 ((timer_regs_t *)0x40000000u)
#define TIMER1 ((timer_regs_t *)0x40001000u)
#define TIMER_EN_IRQ 9u

typedef struct {
    volatile uint32_t LOAD, VALUE, CONTROL, INTCLR;
} dualtimer_regs_t;
#define DUALTIMER ((dualtimer_regs_t *)0x40002000u)
#define DUALTIMER_ONESHOT_32_IRQ_EN 0xa3u

typedef struct {
    volatile uint32_t DATA, STATE, CTRL, INTSTATUS, BAUDDIV;
} uart_regs_t;
#define UART_TXFULL 1u
#define UART_RXFULL 2u
#define UART_TX_EN 1u
#define UART_RX_EN 2u
#define UART_RX_IRQ 8u
#define UART_INT_RX 2u

// The first expiry raises NMI, the second resets.
typedef struct {
    volatile uint32_t LOAD, VALUE, CONTROL, INTCLR;
} watchdog_regs_t;
#define WATCHDOG ((watchdog_regs_t *)0x40008000u)
#define WATCHDOG_LOCK REG32(0x40008C00u)
#define WATCHDOG_KEY 0x1ACCE551u

enum { IRQ_UART0_RX = 0, IRQ_UART1_RX = 2, IRQ_UART2_RX = 4, IRQ_TIMER0 = 8, IRQ_TIMER1 = 9, IRQ_DUALTIMER = 10,
       IRQ_UART3_RX = 18, IRQ_UART4_RX = 20 };

// Settings that a real board has in fuses and straps. The host writes them to block RAM before reset (-device loader).
typedef struct {
    uint32_t magic;
    uint32_t heap_kb;
    uint32_t flash_kb;
    uint32_t lockstep;     // 1: the UARTs use the link (link.c)
    int32_t cut;           // flash operations before the one in which the power is cut; -1: no power cut
    uint32_t seed;         // of os.urandom
    uint64_t epoch_s;      // wall clock at power on, unix time
    uint8_t uid[12];
} straps_t;
#define STRAPS ((const straps_t *)0x01000000u)
#define STRAPS_MAGIC 0x324b4c50u // "PLK2"

// 16 MB of PSRAM, backed by a file on the host. It emulates the flash chip.
#define PSRAM ((uint8_t *)0x21000000u)
#define PSRAM_SIZE 0x01000000u

#endif
