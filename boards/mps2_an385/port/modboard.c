// Module `board`: a flash chip with the rules of NOR flash and power cuts, and counters.
#include <string.h>
#include "board.h"
#include "mps2.h"
#include "py/mperrno.h"
#include "py/runtime.h"
#include "extmod/vfs.h"

#define BLOCK 4096u
#define PAGE 256u
#define POWER_CUT 86 // exit status after the power cut that the straps request

static struct {
    uint32_t programs, erases, violations;
} flash_count;
static int32_t operations_until_cut = -1;
static bool cut_loaded;

// Returns whether the power is cut in the middle of this operation.
static bool power_fails(void) {
    if (!cut_loaded) {
        cut_loaded = true;
        operations_until_cut = STRAPS->magic == STRAPS_MAGIC ? STRAPS->cut : -1;
    }
    return operations_until_cut >= 0 && operations_until_cut-- == 0;
}

static void program(uint8_t *to, const uint8_t *from, size_t n) {
    while (n) {
        size_t part = PAGE - ((uintptr_t)to & (PAGE - 1));
        part = part < n ? part : n;
        ++flash_count.programs;
        bool power_cut = power_fails();
        for (size_t i = 0; i < (power_cut ? part / 2 : part); ++i) {
            flash_count.violations += (from[i] & ~to[i]) != 0; // programming cannot change a bit from 0 to 1
            to[i] &= from[i];
        }
        if (power_cut) {
            board_off(POWER_CUT);
        }
        to += part;
        from += part;
        n -= part;
    }
}

static void erase(uint8_t *block) {
    ++flash_count.erases;
    bool power_cut = power_fails();
    memset(block, 0xff, power_cut ? BLOCK / 2 : BLOCK);
    if (power_cut) {
        board_off(POWER_CUT);
    }
}

static uint32_t flash_bytes(void) {
    uint32_t n = STRAPS->magic == STRAPS_MAGIC && STRAPS->flash_kb ? STRAPS->flash_kb * 1024u : 2u << 20;
    return n < PSRAM_SIZE ? n : PSRAM_SIZE;
}

static const mp_obj_type_t flash_type;
static const mp_obj_base_t flash_obj = { &flash_type };

static mp_obj_t flash_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    mp_arg_check_num(n_args, n_kw, 0, 0, false);
    return MP_OBJ_FROM_PTR(&flash_obj);
}

static uint8_t *flash_address(size_t n_args, const mp_obj_t *args, size_t length) {
    uint32_t block = mp_obj_get_int(args[1]);
    uint32_t offset = n_args > 3 ? mp_obj_get_int(args[3]) : 0;
    if (block >= flash_bytes() / BLOCK || offset > BLOCK || length > flash_bytes() - block * BLOCK - offset) {
        mp_raise_OSError(MP_EIO);
    }
    return PSRAM + block * BLOCK + offset;
}

static mp_obj_t flash_readblocks(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t b;
    mp_get_buffer_raise(args[2], &b, MP_BUFFER_WRITE);
    memcpy(b.buf, flash_address(n_args, args, b.len), b.len);
    return MP_OBJ_NEW_SMALL_INT(0);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(flash_readblocks_obj, 3, 4, flash_readblocks);

static mp_obj_t flash_writeblocks(size_t n_args, const mp_obj_t *args) {
    mp_buffer_info_t b;
    mp_get_buffer_raise(args[2], &b, MP_BUFFER_READ);
    uint8_t *to = flash_address(n_args, args, b.len);
    if (n_args == 3) {
        for (size_t i = 0; i < b.len; i += BLOCK) {
            erase(to + i);
        }
    }
    program(to, b.buf, b.len);
    return MP_OBJ_NEW_SMALL_INT(0);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(flash_writeblocks_obj, 3, 4, flash_writeblocks);

static mp_obj_t flash_ioctl(mp_obj_t self, mp_obj_t op, mp_obj_t arg) {
    switch (mp_obj_get_int(op)) {
        case MP_BLOCKDEV_IOCTL_INIT:
        case MP_BLOCKDEV_IOCTL_DEINIT:
        case MP_BLOCKDEV_IOCTL_SYNC:
            return MP_OBJ_NEW_SMALL_INT(0);
        case MP_BLOCKDEV_IOCTL_BLOCK_COUNT:
            return MP_OBJ_NEW_SMALL_INT(flash_bytes() / BLOCK);
        case MP_BLOCKDEV_IOCTL_BLOCK_SIZE:
            return MP_OBJ_NEW_SMALL_INT(BLOCK);
        case MP_BLOCKDEV_IOCTL_BLOCK_ERASE: {
            mp_obj_t args[2] = { self, arg };
            erase(flash_address(2, args, BLOCK));
            return MP_OBJ_NEW_SMALL_INT(0);
        }
        default:
            return mp_const_none;
    }
}
static MP_DEFINE_CONST_FUN_OBJ_3(flash_ioctl_obj, flash_ioctl);

static const mp_rom_map_elem_t flash_table[] = {
    { MP_ROM_QSTR(MP_QSTR_readblocks), MP_ROM_PTR(&flash_readblocks_obj) },
    { MP_ROM_QSTR(MP_QSTR_writeblocks), MP_ROM_PTR(&flash_writeblocks_obj) },
    { MP_ROM_QSTR(MP_QSTR_ioctl), MP_ROM_PTR(&flash_ioctl_obj) },
};
static MP_DEFINE_CONST_DICT(flash_dict, flash_table);
static MP_DEFINE_CONST_OBJ_TYPE(flash_type, MP_QSTR_Flash, MP_TYPE_FLAG_NONE,
    make_new, flash_make_new, locals_dict, &flash_dict);

// counts(): flash pages programmed, blocks erased, NOR violations, bytes lost on UARTs 1 to 3, maximum heap in use
static mp_obj_t board_counts(void) {
    mp_obj_t t[5] = {
        mp_obj_new_int_from_uint(flash_count.programs), mp_obj_new_int_from_uint(flash_count.erases),
        mp_obj_new_int_from_uint(flash_count.violations),
        mp_obj_new_int_from_uint(uart_count[1].overruns + uart_count[2].overruns + uart_count[3].overruns),
        mp_obj_new_int_from_uint(board_heap_peak()),
    };
    return mp_obj_new_tuple(5, t);
}
static MP_DEFINE_CONST_FUN_OBJ_0(board_counts_obj, board_counts);

// cycles(): cycles of the 25 MHz clock since reset
static mp_obj_t board_cycles_(void) {
    return mp_obj_new_int_from_ull(board_cycles());
}
static MP_DEFINE_CONST_FUN_OBJ_0(board_cycles_obj, board_cycles_);

static const mp_rom_map_elem_t board_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_board) },
    { MP_ROM_QSTR(MP_QSTR_Flash), MP_ROM_PTR(&flash_type) },
    { MP_ROM_QSTR(MP_QSTR_counts), MP_ROM_PTR(&board_counts_obj) },
    { MP_ROM_QSTR(MP_QSTR_cycles), MP_ROM_PTR(&board_cycles_obj) },
};
static MP_DEFINE_CONST_DICT(board_dict, board_table);
const mp_obj_module_t board_module = { { &mp_type_module }, (mp_obj_dict_t *)&board_dict };
MP_REGISTER_MODULE(MP_QSTR_board, board_module);
