/* Python module of the C codec: decodes many position batches at once. Limited API (PEP 384): one build for all versions. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>

#include "patrolink.c"

#include <string.h>

enum { VALUES = PL_COLUMNS - 1, PARTS = 2 + VALUES };

/* The results: rows of each body, then the columns. Their memory is that of bytes objects. */
typedef struct {
    uint8_t *counts;
    int64_t *time_ms;
    int32_t *value[VALUES];
} table;

static uint32_t end_of(const char *ends, size_t i)
{
    uint32_t end;
    memcpy(&end, ends + i * sizeof end, sizeof end);
    return end;
}

/* Rows that a body announces; 0 if its first code is malformed. */
static size_t rows_announced(const uint8_t *body, size_t len)
{
    bit_reader b = {body, len * 8, 0, 0};
    uint64_t n = get_eg(&b, 0) + 1;
    return b.error || n > PL_MAX_BATCH ? 0 : (size_t)n;
}

/* Decode all bodies into a table with space for the rows that they announce. */
static void decode_all(const uint8_t *data, const char *ends, size_t bodies, const table *t)
{
    pl_row rows[PL_MAX_BATCH];
    size_t start = 0, total = 0;
    for (size_t i = 0; i < bodies; i++) {
        size_t end = end_of(ends, i), count = 0;
        int resolution;
        if (pl_track_decode(data + start, end - start, rows, PL_MAX_BATCH, &count, &resolution) != PL_OK)
            count = 0;
        for (size_t j = 0; j < count; j++)
            t->time_ms[total + j] = rows[j].time_ms;
        for (size_t k = 0; k < VALUES; k++)
            for (size_t j = 0; j < count; j++)
                t->value[k][total + j] = rows[j].value[k];
        t->counts[i] = (uint8_t)count;
        total += count;
        start = end;
    }
}

/* Return the tuple of results with its memory, or NULL with an exception. */
static PyObject *new_results(size_t bodies, size_t rows, table *t)
{
    void *memory[PARTS];
    PyObject *out = PyTuple_New(PARTS);
    if (!out)
        return NULL;
    for (Py_ssize_t i = 0; i < PARTS; i++) {
        size_t size = i == 0 ? bodies : rows * (i == 1 ? sizeof *t->time_ms : sizeof *t->value[0]);
        PyObject *part = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
        if (!part || PyTuple_SetItem(out, i, part) < 0) {
            Py_DECREF(out);
            return NULL;
        }
        memory[i] = PyBytes_AsString(part);
    }
    t->counts = memory[0];
    t->time_ms = memory[1];
    for (size_t k = 0; k < VALUES; k++)
        t->value[k] = memory[2 + k];
    return out;
}

static PyObject *decode_batches(PyObject *module, PyObject *args)
{
    const char *bytes, *ends;
    Py_ssize_t size, ends_size;
    (void)module;
    if (!PyArg_ParseTuple(args, "y#y#", &bytes, &size, &ends, &ends_size))
        return NULL;
    const uint8_t *data = (const uint8_t *)bytes;
    size_t bodies = (size_t)ends_size / sizeof(uint32_t), start = 0, rows = 0;
    for (size_t i = 0; i < bodies; i++) {
        size_t end = end_of(ends, i);
        if (end < start || end > (size_t)size) {
            PyErr_SetString(PyExc_ValueError, "the ends of bodies must ascend within the data");
            return NULL;
        }
        rows += rows_announced(data + start, end - start);
        start = end;
    }
    table t;
    PyObject *out = new_results(bodies, rows, &t);
    if (!out)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    decode_all(data, ends, bodies, &t);
    Py_END_ALLOW_THREADS
    return out;
}

static PyMethodDef methods[] = {
    {"decode_batches", decode_batches, METH_VARARGS,
     "decode_batches(data, ends) -> (counts, time, lat, ...)\n\n"
     "Decode the bodies of position batches.\n\n"
     "Args:\n"
     "    data: all bodies, one after the other.\n"
     "    ends: offset after each body, as native uint32.\n\n"
     "Returns:\n"
     "    Bytes: the number of rows of each body (uint8), 0 if it is malformed; then the columns in the order of the\n"
     "    schema: time in unix ms (int64), the others in row units (int32). The columns end with undefined values, one\n"
     "    for each row that a malformed body announces.\n"},
    {NULL, NULL, 0, NULL},
};

static int set_version(PyObject *module) { return PyModule_AddStringConstant(module, "VERSION", PATROLINK_VERSION); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)set_version}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "patrolink_codec",
    .m_doc = "The C codec of Patrolink position batches.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit_patrolink_codec(void) { return PyModuleDef_Init(&definition); }
