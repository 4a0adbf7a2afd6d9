// Module `board`: a flash chip with the rules of NOR flash and power cuts, and counters. The chip has two areas: the file
// system, and behind it the update area with two boot sectors and two slots.
#include <string.h>
#include "board.h"
#include "mps2.h"
#include "py/mperrno.h"
#include "py/runtime.h"
#include "py/objarray.h"
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

enum { AREA_FILES, AREA_UPDATE, AREAS };
enum { SLOTS = 2 };
#define BOOT_BYTES (2 * BLOCK)
#define SLOT_BYTES (384u * 1024u) // [update] in board.toml
#define UPDATE_BYTES (BOOT_BYTES + SLOTS * SLOT_BYTES)

static uint32_t files_bytes(void) {
    uint32_t n = STRAPS->magic == STRAPS_MAGIC && STRAPS->flash_kb ? STRAPS->flash_kb * 1024u : 2u << 20;
    return n < PSRAM_SIZE - UPDATE_BYTES ? n : PSRAM_SIZE - UPDATE_BYTES;
}

static uint8_t *update_area(void) {
    return PSRAM + files_bytes();
}

typedef struct {
    mp_obj_base_t base;
    uint32_t area;
} flash_obj_t;

static const mp_obj_type_t flash_type;
static const flash_obj_t flash_objs[AREAS] = { { { &flash_type }, AREA_FILES }, { { &flash_type }, AREA_UPDATE } };

static uint8_t *area_start(mp_obj_t self) {
    return ((flash_obj_t *)MP_OBJ_TO_PTR(self))->area == AREA_FILES ? PSRAM : update_area();
}

static uint32_t area_bytes(mp_obj_t self) {
    return ((flash_obj_t *)MP_OBJ_TO_PTR(self))->area == AREA_FILES ? files_bytes() : UPDATE_BYTES;
}

// Flash(area): block device of an area; 0: file system, 1: update area
static mp_obj_t flash_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args) {
    mp_arg_check_num(n_args, n_kw, 0, 1, false);
    mp_int_t area = n_args ? mp_obj_get_int(args[0]) : AREA_FILES;
    if (area < 0 || area >= AREAS) {
        mp_raise_ValueError(MP_ERROR_TEXT("area: 0 or 1"));
    }
    return MP_OBJ_FROM_PTR(&flash_objs[area]);
}

static uint8_t *flash_address(size_t n_args, const mp_obj_t *args, size_t length) {
    uint32_t block = mp_obj_get_int(args[1]);
    uint32_t offset = n_args > 3 ? mp_obj_get_int(args[3]) : 0;
    uint32_t size = area_bytes(args[0]);
    if (block >= size / BLOCK || offset > BLOCK || length > size - block * BLOCK - offset) {
        mp_raise_OSError(MP_EIO);
    }
    return area_start(args[0]) + block * BLOCK + offset;
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
            return MP_OBJ_NEW_SMALL_INT(area_bytes(self) / BLOCK);
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

// vfs.rom_ioctl: the contents of the slots, mapped in place, to read. The agent's installer writes them.
mp_obj_t mp_vfs_rom_ioctl(size_t n_args, const mp_obj_t *args) {
    static MP_DEFINE_MEMORYVIEW_OBJ(slot_a, 'B', 0, SLOT_BYTES - BLOCK, NULL);
    static MP_DEFINE_MEMORYVIEW_OBJ(slot_b, 'B', 0, SLOT_BYTES - BLOCK, NULL);
    static mp_obj_array_t *const contents[SLOTS] = { &slot_a, &slot_b };
    mp_int_t command = mp_obj_get_int(args[0]);
    if (command == MP_VFS_ROM_IOCTL_GET_NUMBER_OF_SEGMENTS) {
        return MP_OBJ_NEW_SMALL_INT(SLOTS);
    }
    mp_int_t slot = n_args > 1 ? mp_obj_get_int(args[1]) : -1;
    if (command != MP_VFS_ROM_IOCTL_GET_SEGMENT || slot < 0 || slot >= SLOTS) {
        return MP_OBJ_NEW_SMALL_INT(-MP_EINVAL);
    }
    contents[slot]->items = update_area() + BOOT_BYTES + slot * SLOT_BYTES + BLOCK;
    return MP_OBJ_FROM_PTR(contents[slot]);
}

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

// collections(): cycles of all garbage collections since reset, and of the longest one
static mp_obj_t board_collections(void) {
    uint64_t longest, cycles = board_collection_cycles(&longest);
    mp_obj_t pair[2] = { mp_obj_new_int_from_ull(cycles), mp_obj_new_int_from_ull(longest) };
    return mp_obj_new_tuple(2, pair);
}
static MP_DEFINE_CONST_FUN_OBJ_0(board_collections_obj, board_collections);

static const mp_rom_map_elem_t board_table[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_board) },
    { MP_ROM_QSTR(MP_QSTR_Flash), MP_ROM_PTR(&flash_type) },
    { MP_ROM_QSTR(MP_QSTR_SLOT_BYTES), MP_ROM_INT(SLOT_BYTES) },
    { MP_ROM_QSTR(MP_QSTR_counts), MP_ROM_PTR(&board_counts_obj) },
    { MP_ROM_QSTR(MP_QSTR_cycles), MP_ROM_PTR(&board_cycles_obj) },
    { MP_ROM_QSTR(MP_QSTR_collections), MP_ROM_PTR(&board_collections_obj) },
};
static MP_DEFINE_CONST_DICT(board_dict, board_table);
const mp_obj_module_t board_module = { { &mp_type_module }, (mp_obj_dict_t *)&board_dict };
MP_REGISTER_MODULE(MP_QSTR_board, board_module);
