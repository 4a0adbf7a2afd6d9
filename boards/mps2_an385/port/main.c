// Initializes the board, runs the agent, and starts the REPL when the agent has ended.
#include "board.h"
#include "mps2.h"
#include "py/compile.h"
#include "py/gc.h"
#include "py/mphal.h"
#include "py/runtime.h"
#include "py/stackctrl.h"
#include "shared/runtime/gchelper.h"
#include "shared/runtime/pyexec.h"

extern uint8_t _heap_start, _heap_end, _estack, _stack_size;
#define CONSOLE_BAUD 115200
#define STACK_RESERVE 2048

static uint32_t heap_peak;
static uint64_t collection_cycles, collection_longest;

static size_t heap_bytes(void) {
    size_t available = &_heap_end - &_heap_start;
    size_t requested = STRAPS->magic == STRAPS_MAGIC && STRAPS->heap_kb ? STRAPS->heap_kb * 1024 : 128 * 1024;
    return requested < available ? requested : available;
}

int main(void) {
    board_init();
    if (STRAPS->magic == STRAPS_MAGIC && STRAPS->lockstep) {
        link_open();
    }
    uart_open(UART_CONSOLE, CONSOLE_BAUD, UART_RING, true);
    uart_open(UART_PANEL, CONSOLE_BAUD, 1, true);
    for (;;) {
        mp_stack_set_top(&_estack);
        mp_stack_set_limit((uint32_t)&_stack_size - STACK_RESERVE);
        gc_init(&_heap_start, &_heap_start + heap_bytes());
        mp_init();
        pyexec_frozen_module("_boot.py", false);
        // mpremote restarts the interpreter in the raw REPL; the agent must not start then.
        int ret = 0;
        if (pyexec_mode_kind == PYEXEC_MODE_FRIENDLY_REPL) {
            ret = pyexec_frozen_module("boot.py", true); // Ctrl-C ends the agent
        }
        while (!(ret & PYEXEC_FORCED_EXIT)) {
            ret = pyexec_mode_kind == PYEXEC_MODE_RAW_REPL ? pyexec_raw_repl() : pyexec_friendly_repl();
        }
        mp_printf(&mp_plat_print, "MPY: soft reboot\n");
        gc_sweep_all();
        mp_deinit();
        for (int id = UART_CONSOLE + 1; id <= UART_LAST; ++id) {
            uart_close(id);
        }
    }
}

void gc_collect(void) {
    uint64_t start = board_cycles();
    gc_collect_start();
    gc_helper_collect_regs_and_stack();
    gc_collect_end();
    gc_info_t info;
    gc_info(&info);
    if (info.used > heap_peak) {
        heap_peak = info.used;
    }
    uint64_t cycles = board_cycles() - start;
    collection_cycles += cycles;
    if (cycles > collection_longest) {
        collection_longest = cycles;
    }
}

// Cycles of all garbage collections since reset, and of the longest one.
uint64_t board_collection_cycles(uint64_t *longest) {
    *longest = collection_longest;
    return collection_cycles;
}

// Maximum number of heap bytes in use after a collection.
uint32_t board_heap_peak(void) {
    return heap_peak;
}

void nlr_jump_fail(void *val) {
    mp_printf(&mp_plat_print, "FAULT exception without a handler\n");
    board_reset(CAUSE_FAULT);
}
