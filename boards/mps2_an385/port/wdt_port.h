// machine.WDT over the CMSDK watchdog.
#include "board.h"
#include "mps2.h"

typedef struct _machine_wdt_obj_t {
    mp_obj_base_t base;
} machine_wdt_obj_t;
static machine_wdt_obj_t wdt = { { &machine_wdt_type } };

static void mp_machine_wdt_timeout_ms_set(machine_wdt_obj_t *self, mp_int_t ms) {
    if (ms < 2 || ms > 300000) {
        mp_raise_ValueError(MP_ERROR_TEXT("timeout: 2 to 300000 ms"));
    }
    WATCHDOG_LOCK = WATCHDOG_KEY;
    WATCHDOG->LOAD = ms * (CYCLES_PER_MS / 2); // the second expiry resets the board
    WATCHDOG->INTCLR = 1;
    WATCHDOG->CONTROL = 3;
    WATCHDOG_LOCK = 0;
}

static machine_wdt_obj_t *mp_machine_wdt_make_new_instance(mp_int_t id, mp_int_t ms) {
    mp_machine_wdt_timeout_ms_set(&wdt, ms);
    return &wdt;
}

static void mp_machine_wdt_feed(machine_wdt_obj_t *self) {
    WATCHDOG_LOCK = WATCHDOG_KEY;
    WATCHDOG->INTCLR = 1;
    WATCHDOG_LOCK = 0;
    board_set_next_cause(CAUSE_HARD);
}
