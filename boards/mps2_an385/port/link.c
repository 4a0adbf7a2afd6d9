// Lock-step: semihosting calls transfer the data of the UARTs. The CPU stops until the host answers. With -icount every
// byte is therefore sent and received at the same virtual time in every run.
//
// board -> host: u32 id, u32 length, u64 now in cycles, data. id: a UART, BOOT (data: reset cause), or POLL (no data)
// host -> board: u32 UART, u32 length, u64 time of the next POLL, data
#include <string.h>
#include "board.h"
#include "mps2.h"

enum { SYS_OPEN = 1, SYS_WRITE = 5, SYS_READ = 6 };
enum { BOOT = 0xfe, POLL = 0xff };
#define DATA_MAX 256
#define LINK_BROKEN 87 // exit status

typedef struct {
    uint32_t id, length;
    uint64_t time;
} header_t;

static int in = -1, out = -1;

static int open_file(const char *name, int mode) {
    uint32_t a[3] = { (uint32_t)name, mode, strlen(name) };
    return board_semihost(SYS_OPEN, a);
}

static void write_all(const void *p, size_t n) {
    uint32_t a[3] = { out, (uint32_t)p, n };
    if (board_semihost(SYS_WRITE, a) != 0) {
        board_off(LINK_BROKEN); // the host has closed the link
    }
}

static void read_all(void *p, size_t n) {
    uint8_t *to = p;
    while (n) {
        uint32_t a[3] = { in, (uint32_t)to, n };
        size_t left = board_semihost(SYS_READ, a);
        if (left >= n) {
            board_off(LINK_BROKEN);
        }
        to += n - left;
        n = left;
    }
}

// Send data, handle all received data, and start the timer of the next POLL. Interrupts must be off.
static void exchange(uint32_t id, const uint8_t *p, size_t n) {
    static struct {
        header_t header;
        uint8_t bytes[DATA_MAX];
    } m;
    m.header = (header_t) { id, n, board_cycles() };
    memcpy(m.bytes, p, n);
    write_all(&m, sizeof(header_t) + n);
    for (;;) {
        read_all(&m.header, sizeof(header_t));
        if (m.header.length > DATA_MAX || m.header.id >= UARTS) {
            board_off(LINK_BROKEN);
        }
        read_all(m.bytes, m.header.length);
        for (size_t i = 0; i < m.header.length; ++i) {
            uart_receive(m.header.id, m.bytes[i]);
        }
        uint64_t now = board_cycles();
        if (m.header.time > now) {
            uint64_t left = m.header.time - now;
            DUALTIMER->CONTROL = 0;
            DUALTIMER->LOAD = left > 0xffffffffu ? 0xffffffffu : left;
            DUALTIMER->CONTROL = DUALTIMER_ONESHOT_32_IRQ_EN;
            return;
        }
        m.header = (header_t) { POLL, 0, now };
        write_all(&m.header, sizeof(header_t));
    }
}

void dualtimer_isr(void) {
    DUALTIMER->INTCLR = 1;
    exchange(POLL, NULL, 0);
    board_event();
}

bool link_on(void) {
    return in >= 0;
}

void link_open(void) {
    out = open_file("link.out", 5); // "wb"
    in = open_file("link.in", 1);   // "rb"
    if (in < 0 || out < 0) {
        board_off(LINK_BROKEN);
    }
    NVIC_ISER0 = 1u << IRQ_DUALTIMER;
    uint8_t cause = board_cause();
    uint32_t s = irq_off();
    exchange(BOOT, &cause, 1);
    irq_restore(s);
}

void link_send(unsigned id, const uint8_t *p, size_t n) {
    uint32_t s = irq_off();
    exchange(id, p, n);
    irq_restore(s);
}
