// UARTs: received by interrupt into a ring, sent by polling; in lock-step both go through the link.
#include "board.h"
#include "mps2.h"

static uart_regs_t *const regs[UARTS] = {
    (uart_regs_t *)0x40004000u, (uart_regs_t *)0x40005000u, (uart_regs_t *)0x40006000u,
    (uart_regs_t *)0x40007000u, (uart_regs_t *)0x40009000u,
};
static const uint8_t irq[UARTS] = { IRQ_UART0_RX, IRQ_UART1_RX, IRQ_UART2_RX, IRQ_UART3_RX, IRQ_UART4_RX };

static struct {
    volatile uint16_t put, get;
    uint16_t size;
    bool hold; // when full, hold the sender back (RTS) rather than drop
    uint8_t buf[UART_RING];
    uint16_t out_n;
    uint8_t out[256]; // towards the link
} line[UARTS];
uart_count_t uart_count[UARTS];
extern int mp_interrupt_char;

static unsigned after(unsigned id, unsigned i) {
    return i + 1u == line[id].size ? 0 : i + 1u;
}

void uart_open(unsigned id, uint32_t baud, unsigned room, bool hold) {
    uint32_t s = irq_off();
    line[id].put = line[id].get = 0;
    line[id].size = room < 1 ? 2 : room >= UART_RING ? UART_RING : room + 1;
    line[id].hold = hold;
    uint32_t div = CLOCK_HZ / baud;
    regs[id]->BAUDDIV = div < 16 ? 16 : div;
    regs[id]->CTRL = UART_TX_EN | UART_RX_EN | UART_RX_IRQ;
    (void)regs[id]->DATA; // QEMU looks at its input only after this
    NVIC_ISER0 = 1u << irq[id];
    irq_restore(s);
}

void uart_close(unsigned id) {
    regs[id]->CTRL = 0;
}

void uart_take(unsigned id, uint8_t c) {
    ++uart_count[id].received;
    if (id == UART_PANEL) {
        panel_take(c);
        return;
    }
    if (id == UART_CONSOLE && c == mp_interrupt_char) {
        uart_break();
        return;
    }
    if (!line[id].size) {
        return; // nobody has opened it
    }
    unsigned next = after(id, line[id].put);
    if (next == line[id].get) {
        ++uart_count[id].overruns;
    } else {
        line[id].buf[line[id].put] = c;
        line[id].put = next;
    }
}

static void receive(unsigned id) {
    uart_regs_t *u = regs[id];
    u->INTSTATUS = UART_INT_RX; // before the data, or a byte that comes meanwhile is forgotten
    while (u->STATE & UART_RXFULL) {
        if (line[id].hold && after(id, line[id].put) == line[id].get) {
            u->CTRL &= ~UART_RX_IRQ; // until uart_get has made room
            break;
        }
        uart_take(id, u->DATA);
    }
    board_event();
}

void uart0_isr(void) { receive(0); }
void uart1_isr(void) { receive(1); }
void uart2_isr(void) { receive(2); }
void uart3_isr(void) { receive(3); }
void uart4_isr(void) { receive(4); }

size_t uart_any(unsigned id) {
    int n = line[id].put - line[id].get;
    return n < 0 ? n + line[id].size : n;
}

int uart_get(unsigned id) {
    if (line[id].get == line[id].put) {
        return -1;
    }
    int c = line[id].buf[line[id].get];
    line[id].get = after(id, line[id].get);
    if (line[id].hold && !link_on() && !(regs[id]->CTRL & UART_RX_IRQ)) {
        uint32_t s = irq_off();
        regs[id]->CTRL |= UART_RX_IRQ;
        receive(id); // the interrupt of the byte that waits may be gone
        irq_restore(s);
    }
    return c;
}

bool uart_ready(unsigned id) {
    return link_on() || !(regs[id]->STATE & UART_TXFULL);
}

void uart_put(unsigned id, uint8_t c) {
    ++uart_count[id].sent;
    if (!link_on()) {
        while (regs[id]->STATE & UART_TXFULL) {
        }
        regs[id]->DATA = c;
        return;
    }
    line[id].out[line[id].out_n++] = c;
    if (line[id].out_n == sizeof(line[id].out)) {
        uart_flush(id);
    }
}

void uart_flush(unsigned id) {
    if (line[id].out_n) {
        link_send(id, line[id].out, line[id].out_n);
        line[id].out_n = 0;
    }
}
