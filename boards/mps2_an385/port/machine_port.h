// Module `machine` of this board.
#include "board.h"
#include "mps2.h"
#include "shared/timeutils/timeutils.h"

static void mp_machine_idle(void) {
    mp_event_wait_ms(1);
}

NORETURN static void mp_machine_reset(void) {
    board_reset(CAUSE_HARD);
}

static mp_int_t mp_machine_reset_cause(void) {
    return board_cause();
}

static mp_obj_t mp_machine_unique_id(void) {
    return mp_obj_new_bytes(STRAPS->uid, sizeof(STRAPS->uid));
}

static mp_obj_t mp_machine_get_freq(void) {
    return MP_OBJ_NEW_SMALL_INT(CLOCK_HZ);
}

static void mp_machine_set_freq(size_t n_args, const mp_obj_t *args) {
    mp_raise_ValueError(MP_ERROR_TEXT("the clock has one frequency, 25 MHz"));
}

static void mp_machine_lightsleep(size_t n_args, const mp_obj_t *args) {
    if (n_args) {
        mp_hal_delay_ms(mp_obj_get_int(args[0]));
    } else {
        mp_event_wait_indefinite();
    }
}

// Without a time no source could wake the board: the emulator ends.
NORETURN static void mp_machine_deepsleep(size_t n_args, const mp_obj_t *args) {
    if (!n_args) {
        board_off(0);
    }
    mp_hal_delay_ms(mp_obj_get_int(args[0]));
    board_reset(CAUSE_DEEPSLEEP);
}

// machine.RTC
typedef struct {
    mp_obj_base_t base;
} rtc_obj_t;
extern const mp_obj_type_t board_rtc_type;
static const rtc_obj_t rtc_obj = { { &board_rtc_type } };

static mp_obj_t rtc_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    mp_arg_check_num(n_args, n_kw, 0, 0, false);
    return MP_OBJ_FROM_PTR(&rtc_obj);
}

// datetime((year, month, day, weekday, hours, minutes, seconds, microseconds))
static mp_obj_t rtc_datetime(size_t n_args, const mp_obj_t *args) {
    if (n_args == 1) {
        int64_t us = board_rtc_us();
        timeutils_struct_time_t tm;
        timeutils_seconds_since_epoch_to_struct_time(us / 1000000, &tm);
        mp_obj_t t[8] = {
            mp_obj_new_int(tm.tm_year), mp_obj_new_int(tm.tm_mon), mp_obj_new_int(tm.tm_mday),
            mp_obj_new_int(tm.tm_wday), mp_obj_new_int(tm.tm_hour), mp_obj_new_int(tm.tm_min),
            mp_obj_new_int(tm.tm_sec), mp_obj_new_int(us % 1000000),
        };
        return mp_obj_new_tuple(8, t);
    }
    mp_obj_t *t;
    mp_obj_get_array_fixed_n(args[1], 8, &t);
    int64_t s = timeutils_seconds_since_epoch(mp_obj_get_int(t[0]), mp_obj_get_int(t[1]),
        mp_obj_get_int(t[2]), mp_obj_get_int(t[4]), mp_obj_get_int(t[5]), mp_obj_get_int(t[6]));
    board_rtc_set_us(s * 1000000 + mp_obj_get_int(t[7]));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(rtc_datetime_obj, 1, 2, rtc_datetime);
static const mp_rom_map_elem_t rtc_table[] = {
    { MP_ROM_QSTR(MP_QSTR_datetime), MP_ROM_PTR(&rtc_datetime_obj) },
};
static MP_DEFINE_CONST_DICT(rtc_dict, rtc_table);
MP_DEFINE_CONST_OBJ_TYPE(board_rtc_type, MP_QSTR_RTC, MP_TYPE_FLAG_NONE, make_new, rtc_make_new, locals_dict, &rtc_dict);

extern const mp_obj_type_t board_pin_type;
#define MICROPY_PY_MACHINE_EXTRA_GLOBALS \
    { MP_ROM_QSTR(MP_QSTR_Pin), MP_ROM_PTR(&board_pin_type) }, \
    { MP_ROM_QSTR(MP_QSTR_RTC), MP_ROM_PTR(&board_rtc_type) }, \
    { MP_ROM_QSTR(MP_QSTR_PWRON_RESET), MP_ROM_INT(CAUSE_POWER) }, \
    { MP_ROM_QSTR(MP_QSTR_HARD_RESET), MP_ROM_INT(CAUSE_HARD) }, \
    { MP_ROM_QSTR(MP_QSTR_WDT_RESET), MP_ROM_INT(CAUSE_WATCHDOG) }, \
    { MP_ROM_QSTR(MP_QSTR_DEEPSLEEP_RESET), MP_ROM_INT(CAUSE_DEEPSLEEP) }, \
    { MP_ROM_QSTR(MP_QSTR_SOFT_RESET), MP_ROM_INT(CAUSE_SOFT) }, \
    { MP_ROM_QSTR(MP_QSTR_FAULT_RESET), MP_ROM_INT(CAUSE_FAULT) },
