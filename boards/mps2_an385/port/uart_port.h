// machine.UART over the UARTs 1 to 3.
#include "board.h"
#include "py/mperrno.h"
#include "py/mphal.h"

#define MICROPY_PY_MACHINE_UART_CLASS_CONSTANTS { MP_ROM_QSTR(MP_QSTR_RTS), MP_ROM_INT(1) },

typedef struct _machine_uart_obj_t {
    mp_obj_base_t base;
    uint8_t id;
    bool rts;
    uint16_t rxbuf;
    uint32_t baud, timeout, timeout_char;
} machine_uart_obj_t;
static machine_uart_obj_t uarts[UART_LAST + 1];

static void mp_machine_uart_print(const mp_print_t *print, mp_obj_t self_in, mp_print_kind_t kind) {
    machine_uart_obj_t *self = MP_OBJ_TO_PTR(self_in);
    mp_printf(print, "UART(%u, baudrate=%u, rxbuf=%u, timeout=%u, timeout_char=%u, flow=%u)", self->id,
        (unsigned)self->baud, self->rxbuf, (unsigned)self->timeout, (unsigned)self->timeout_char, self->rts);
}

static void mp_machine_uart_init_helper(machine_uart_obj_t *self, size_t n_args, const mp_obj_t *pos, mp_map_t *kw) {
    enum { BAUDRATE, BITS, PARITY, STOP, TIMEOUT, TIMEOUT_CHAR, RXBUF, TXBUF, FLOW, TX, RX };
    static const mp_arg_t allowed[] = {
        { MP_QSTR_baudrate, MP_ARG_INT, {.u_int = 9600} },
        { MP_QSTR_bits, MP_ARG_INT, {.u_int = 8} },
        { MP_QSTR_parity, MP_ARG_OBJ, {.u_rom_obj = MP_ROM_NONE} },
        { MP_QSTR_stop, MP_ARG_INT, {.u_int = 1} },
        { MP_QSTR_timeout, MP_ARG_KW_ONLY | MP_ARG_INT, {.u_int = 0} },
        { MP_QSTR_timeout_char, MP_ARG_KW_ONLY | MP_ARG_INT, {.u_int = 2} },
        { MP_QSTR_rxbuf, MP_ARG_KW_ONLY | MP_ARG_INT, {.u_int = 256} },
        { MP_QSTR_txbuf, MP_ARG_KW_ONLY | MP_ARG_INT, {.u_int = 0} },  // ignored: transmission is by polling
        { MP_QSTR_flow, MP_ARG_KW_ONLY | MP_ARG_INT, {.u_int = 0} },
        { MP_QSTR_tx, MP_ARG_KW_ONLY | MP_ARG_OBJ, {.u_rom_obj = MP_ROM_NONE} }, // ignored: pins are fixed
        { MP_QSTR_rx, MP_ARG_KW_ONLY | MP_ARG_OBJ, {.u_rom_obj = MP_ROM_NONE} },
    };
    mp_arg_val_t a[MP_ARRAY_SIZE(allowed)];
    mp_arg_parse_all(n_args, pos, kw, MP_ARRAY_SIZE(allowed), allowed, a);
    if (a[BITS].u_int != 8 || a[PARITY].u_obj != mp_const_none || a[STOP].u_int != 1) {
        mp_raise_ValueError(MP_ERROR_TEXT("only 8N1"));
    }
    if (a[BAUDRATE].u_int <= 0 || a[RXBUF].u_int <= 0 || a[TIMEOUT].u_int < 0 || a[TIMEOUT_CHAR].u_int < 0) {
        mp_raise_ValueError(NULL);
    }
    self->baud = a[BAUDRATE].u_int;
    self->timeout = a[TIMEOUT].u_int;
    self->timeout_char = a[TIMEOUT_CHAR].u_int;
    self->rxbuf = MIN(a[RXBUF].u_int, UART_RING - 1);
    self->rts = a[FLOW].u_int & 1;
    uart_open(self->id, self->baud, self->rxbuf, self->rts);
}

static mp_obj_t mp_machine_uart_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    mp_arg_check_num(n_args, n_kw, 1, MP_OBJ_FUN_ARGS_MAX, true);
    mp_int_t id = mp_obj_get_int(args[0]);
    if (id < 1 || id > UART_LAST) {
        mp_raise_msg_varg(&mp_type_ValueError, MP_ERROR_TEXT("UART(%d): must be 1 to 3"), (int)id);
    }
    machine_uart_obj_t *self = &uarts[id];
    self->base.type = &machine_uart_type;
    self->id = id;
    mp_map_t kw;
    mp_map_init_fixed_table(&kw, n_kw, args + n_args);
    mp_machine_uart_init_helper(self, n_args - 1, args + 1, &kw);
    return MP_OBJ_FROM_PTR(self);
}

static void mp_machine_uart_deinit(machine_uart_obj_t *self) {
    uart_close(self->id);
}

static mp_int_t mp_machine_uart_any(machine_uart_obj_t *self) {
    return uart_any(self->id);
}

static bool mp_machine_uart_txdone(machine_uart_obj_t *self) {
    return uart_ready(self->id);
}

static bool wait_for_byte(machine_uart_obj_t *self, uint32_t timeout) {
    uint32_t start = mp_hal_ticks_ms();
    while (!uart_any(self->id)) {
        uint32_t elapsed = mp_hal_ticks_ms() - start;
        if (elapsed >= timeout) {
            return false;
        }
        mp_event_wait_ms(timeout - elapsed);
    }
    return true;
}

static mp_uint_t mp_machine_uart_read(mp_obj_t self_in, void *buf, mp_uint_t size, int *errcode) {
    machine_uart_obj_t *self = MP_OBJ_TO_PTR(self_in);
    uint8_t *p = buf;
    for (mp_uint_t i = 0; i < size; ++i) {
        if (!wait_for_byte(self, i ? self->timeout_char : self->timeout)) {
            if (i == 0) {
                *errcode = MP_EAGAIN;
                return MP_STREAM_ERROR;
            }
            return i;
        }
        p[i] = uart_get(self->id);
    }
    return size;
}

static mp_uint_t mp_machine_uart_write(mp_obj_t self_in, const void *buf, mp_uint_t size, int *errcode) {
    machine_uart_obj_t *self = MP_OBJ_TO_PTR(self_in);
    const uint8_t *p = buf;
    for (mp_uint_t i = 0; i < size; ++i) {
        uart_put(self->id, p[i]);
    }
    uart_flush(self->id);
    return size;
}

static mp_uint_t mp_machine_uart_ioctl(mp_obj_t self_in, mp_uint_t request, uintptr_t arg, int *errcode) {
    machine_uart_obj_t *self = MP_OBJ_TO_PTR(self_in);
    if (request == MP_STREAM_POLL) {
        return (uart_any(self->id) ? arg & MP_STREAM_POLL_RD : 0) | (uart_ready(self->id) ? arg & MP_STREAM_POLL_WR : 0);
    }
    if (request == MP_STREAM_FLUSH) {
        return 0; // write returns after transmission
    }
    *errcode = MP_EINVAL;
    return MP_STREAM_ERROR;
}
