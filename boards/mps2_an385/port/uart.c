// UARTs: reception by interrupt into a ring buffer, transmission by polling. In lock-step both use the link.
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
    bool flow_control; // when full, stop the sender (RTS) instead of dropping data
    uint8_t buf[UART_RING];
    uint16_t out_n;
    uint8_t out[256]; // data for the link
} line[UARTS];
uart_count_t uart_count[UARTS];
extern int mp_interrupt_char;

static unsigned next_index(unsigned id, unsigned i) {
    return i + 1u == line[id].size ? 0 : i + 1u;
}

void uart_open(unsigned id, uint32_t baud, unsigned capacity, bool flow_control) {
    uint32_t s = irq_off();
    line[id].put = line[id].get = 0;
    line[id].size = capacity < 1 ? 2 : capacity >= UART_RING ? UART_RING : capacity + 1;
    line[id].flow_control = flow_control;
    uint32_t div = CLOCK_HZ / baud;
    regs[id]->BAUDDIV = div < 16 ? 16 : div;
    regs[id]->CTRL = UART_TX_EN | UART_RX_EN | UART_RX_IRQ;
    (void)regs[id]->DATA; // QEMU checks its input only after this read
    NVIC_ISER0 = 1u << irq[id];
    irq_restore(s);
}

void uart_close(unsigned id) {
    regs[id]->CTRL = 0;
}

void uart_receive(unsigned id, uint8_t c) {
    ++uart_count[id].received;
    if (id == UART_PANEL) {
        panel_receive(c);
        return;
    }
    if (id == UART_CONSOLE && c == mp_interrupt_char) {
        uart_break();
        return;
    }
    if (!line[id].size) {
        return; // not open
    }
    unsigned next = next_index(id, line[id].put);
    if (next == line[id].get) {
        ++uart_count[id].overruns;
    } else {
        line[id].buf[line[id].put] = c;
        line[id].put = next;
    }
}

static void drain(unsigned id) {
    uart_regs_t *u = regs[id];
    u->INTSTATUS = UART_INT_RX; // clear before reading: a byte that arrives meanwhile sets it again
    while (u->STATE & UART_RXFULL) {
        if (line[id].flow_control && next_index(id, line[id].put) == line[id].get) {
            u->CTRL &= ~UART_RX_IRQ; // until uart_get has freed space
            break;
        }
        uart_receive(id, u->DATA);
    }
    board_event();
}

void uart0_isr(void) { drain(0); }
void uart1_isr(void) { drain(1); }
void uart2_isr(void) { drain(2); }
void uart3_isr(void) { drain(3); }
void uart4_isr(void) { drain(4); }

size_t uart_any(unsigned id) {
    int n = line[id].put - line[id].get;
    return n < 0 ? n + line[id].size : n;
}

int uart_get(unsigned id) {
    if (line[id].get == line[id].put) {
        return -1;
    }
    int c = line[id].buf[line[id].get];
    line[id].get = next_index(id, line[id].get);
    if (line[id].flow_control && !link_on() && !(regs[id]->CTRL & UART_RX_IRQ)) {
        uint32_t s = irq_off();
        regs[id]->CTRL |= UART_RX_IRQ;
        drain(id); // the pending byte may not raise another interrupt
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
