// Lock-step: the UARTs' bytes go through semihosting calls. The CPU stands still while the host answers, so that under
// -icount every byte comes and goes at the same virtual time in every run.
//
// board -> host: u32 id, u32 length, u64 now in cycles, bytes. id: a UART, BOOT (the reset's cause), or CALL
// host -> board: u32 UART, u32 length, u64 time of the next call, bytes
#include <string.h>
#include "board.h"
#include "mps2.h"

enum { SYS_OPEN = 1, SYS_WRITE = 5, SYS_READ = 6 };
enum { BOOT = 0xfe, CALL = 0xff };
#define ROOM 256
#define LINK_BROKEN 87 // exit status

typedef struct {
    uint32_t id, length;
    uint64_t time;
} head_t;

static int in = -1, out = -1;

static int open_file(const char *name, int mode) {
    uint32_t a[3] = { (uint32_t)name, mode, strlen(name) };
    return board_semihost(SYS_OPEN, a);
}

static void write_all(const void *p, size_t n) {
    uint32_t a[3] = { out, (uint32_t)p, n };
    if (board_semihost(SYS_WRITE, a) != 0) {
        board_off(LINK_BROKEN); // the host has gone
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

// Say it, take what has come, and set the timer for the next call. With interrupts off.
static void exchange(uint32_t id, const uint8_t *p, size_t n) {
    static struct {
        head_t head;
        uint8_t bytes[ROOM];
    } m;
    m.head = (head_t) { id, n, board_cycles() };
    memcpy(m.bytes, p, n);
    write_all(&m, sizeof(head_t) + n);
    for (;;) {
        read_all(&m.head, sizeof(head_t));
        if (m.head.length > ROOM || m.head.id >= UARTS) {
            board_off(LINK_BROKEN);
        }
        read_all(m.bytes, m.head.length);
        for (size_t i = 0; i < m.head.length; ++i) {
            uart_take(m.head.id, m.bytes[i]);
        }
        uint64_t now = board_cycles();
        if (m.head.time > now) {
            uint64_t left = m.head.time - now;
            DUALTIMER->CONTROL = 0;
            DUALTIMER->LOAD = left > 0xffffffffu ? 0xffffffffu : left;
            DUALTIMER->CONTROL = DUALTIMER_ONESHOT_32_IRQ_EN;
            return;
        }
        m.head = (head_t) { CALL, 0, now };
        write_all(&m.head, sizeof(head_t));
    }
}

void dualtimer_isr(void) {
    DUALTIMER->INTCLR = 1;
    exchange(CALL, NULL, 0);
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
