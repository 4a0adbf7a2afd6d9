// os.urandom
#include "board.h"

static mp_obj_t mp_os_urandom(mp_obj_t n) {
    vstr_t vstr;
    vstr_init_len(&vstr, mp_obj_get_int(n));
    for (size_t i = 0; i < vstr.len; ++i) {
        vstr.buf[i] = board_random() >> 11;
    }
    return mp_obj_new_bytes_from_vstr(&vstr);
}
static MP_DEFINE_CONST_FUN_OBJ_1(mp_os_urandom_obj, mp_os_urandom);
