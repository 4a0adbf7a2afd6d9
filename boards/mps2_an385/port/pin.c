// machine.Pin. UART 4 connects the pins to the host, one byte for each change: the pin's number, and its level in bit 7.
#include "board.h"
#include "py/mphal.h"
#include "py/runtime.h"

#define PINS 32

typedef struct {
    mp_obj_base_t base;
    uint8_t id;
} pin_obj_t;

extern const mp_obj_type_t board_pin_type;
static pin_obj_t pins[PINS];
static volatile uint32_t levels = 0xffffffffu; // pulled up
static uint8_t triggers[PINS];
enum { FALLING = 1, RISING = 2 };
MP_REGISTER_ROOT_POINTER(mp_obj_t pin_handler[32]);

void panel_receive(uint8_t c) {
    unsigned id = c & (PINS - 1);
    bool before = levels >> id & 1, now = c & 0x80;
    levels = now ? levels | 1u << id : levels & ~(1u << id);
    mp_obj_t handler = MP_STATE_PORT(pin_handler)[id];
    if (before != now && triggers[id] & (now ? RISING : FALLING) && handler != MP_OBJ_NULL && handler != mp_const_none) {
        mp_sched_schedule(handler, MP_OBJ_FROM_PTR(&pins[id]));
    }
    board_event();
}

// Pin(id, mode=IN): the mode is ignored, every pin is both input and output.
static mp_obj_t pin_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    mp_arg_check_num(n_args, n_kw, 1, 3, false);
    mp_int_t id = mp_obj_get_int(args[0]);
    if (id < 0 || id >= PINS) {
        mp_raise_msg_varg(&mp_type_ValueError, MP_ERROR_TEXT("Pin(%d): must be 0 to 31"), (int)id);
    }
    pins[id].base.type = &board_pin_type;
    pins[id].id = id;
    return MP_OBJ_FROM_PTR(&pins[id]);
}

static mp_obj_t pin_value(size_t n_args, const mp_obj_t *args) {
    pin_obj_t *self = MP_OBJ_TO_PTR(args[0]);
    if (n_args == 1) {
        return MP_OBJ_NEW_SMALL_INT(levels >> self->id & 1);
    }
    bool level = mp_obj_is_true(args[1]);
    uint32_t s = irq_off();
    levels = level ? levels | 1u << self->id : levels & ~(1u << self->id);
    irq_restore(s);
    uart_put(UART_PANEL, self->id | level << 7);
    uart_flush(UART_PANEL);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(pin_value_obj, 1, 2, pin_value);

// irq(handler, trigger): schedules handler(pin) after a change.
static mp_obj_t pin_irq(size_t n_args, const mp_obj_t *pos, mp_map_t *kw) {
    static const mp_arg_t allowed[] = {
        { MP_QSTR_handler, MP_ARG_OBJ, {.u_rom_obj = MP_ROM_NONE} },
        { MP_QSTR_trigger, MP_ARG_INT, {.u_int = FALLING | RISING} },
    };
    mp_arg_val_t a[MP_ARRAY_SIZE(allowed)];
    mp_arg_parse_all(n_args - 1, pos + 1, kw, MP_ARRAY_SIZE(allowed), allowed, a);
    unsigned id = ((pin_obj_t *)MP_OBJ_TO_PTR(pos[0]))->id;
    triggers[id] = a[1].u_int;
    MP_STATE_PORT(pin_handler)[id] = a[0].u_obj;
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_KW(pin_irq_obj, 1, pin_irq);

static const mp_rom_map_elem_t pin_table[] = {
    { MP_ROM_QSTR(MP_QSTR_value), MP_ROM_PTR(&pin_value_obj) },
    { MP_ROM_QSTR(MP_QSTR_irq), MP_ROM_PTR(&pin_irq_obj) },
    { MP_ROM_QSTR(MP_QSTR_IN), MP_ROM_INT(0) },
    { MP_ROM_QSTR(MP_QSTR_OUT), MP_ROM_INT(1) },
    { MP_ROM_QSTR(MP_QSTR_PULL_UP), MP_ROM_INT(1) },
    { MP_ROM_QSTR(MP_QSTR_IRQ_FALLING), MP_ROM_INT(FALLING) },
    { MP_ROM_QSTR(MP_QSTR_IRQ_RISING), MP_ROM_INT(RISING) },
};
static MP_DEFINE_CONST_DICT(pin_dict, pin_table);
MP_DEFINE_CONST_OBJ_TYPE(board_pin_type, MP_QSTR_Pin, MP_TYPE_FLAG_NONE, make_new, pin_make_new, locals_dict, &pin_dict);
