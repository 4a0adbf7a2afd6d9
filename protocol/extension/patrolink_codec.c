/* Python module of the C codec: decodes many position batches at once. Limited API (PEP 384): one build for all versions. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>

#include "patrolink.c"

#include <stdlib.h>
#include <string.h>

enum { VALUES = PL_COLUMNS - 1 };

/* Rows of all batches so far, a column in one piece. */
typedef struct {
    size_t count, capacity;
    int64_t *time_ms;
    int32_t *value[VALUES];
} table;

static void table_free(table *t)
{
    free(t->time_ms);
    for (size_t i = 0; i < VALUES; i++)
        free(t->value[i]);
}

/* Make space for a batch of the largest size. Returns false if memory is short; the table remains valid. */
static bool table_reserve(table *t)
{
    if (t->capacity - t->count >= PL_MAX_BATCH)
        return true;
    size_t capacity = 2 * t->capacity + 64 * PL_MAX_BATCH;
    int64_t *time_ms = realloc(t->time_ms, capacity * sizeof *time_ms);
    if (!time_ms)
        return false;
    t->time_ms = time_ms;
    for (size_t i = 0; i < VALUES; i++) {
        int32_t *value = realloc(t->value[i], capacity * sizeof *value);
        if (!value)
            return false;
        t->value[i] = value;
    }
    t->capacity = capacity;
    return true;
}

static void table_append(table *t, const pl_row *rows, size_t count)
{
    for (size_t j = 0; j < count; j++)
        t->time_ms[t->count + j] = rows[j].time_ms;
    for (size_t i = 0; i < VALUES; i++)
        for (size_t j = 0; j < count; j++)
            t->value[i][t->count + j] = rows[j].value[i];
    t->count += count;
}

/* Decode all bodies; counts[i] is the number of rows of body i, 0 if it is malformed. Returns false if memory is short. */
static bool decode_all(const uint8_t *data, const uint32_t *ends, size_t bodies, uint8_t *counts, table *t)
{
    pl_row rows[PL_MAX_BATCH];
    uint32_t start = 0;
    for (size_t i = 0; i < bodies; i++) {
        size_t count = 0;
        int resolution;
        if (!table_reserve(t))
            return false;
        int result = pl_track_decode(data + start, ends[i] - start, rows, PL_MAX_BATCH, &count, &resolution);
        counts[i] = result == PL_OK ? (uint8_t)count : 0;
        table_append(t, rows, counts[i]);
        start = ends[i];
    }
    return true;
}

static PyObject *bytes_of(const void *data, size_t count, size_t size)
{
    return PyBytes_FromStringAndSize(count ? data : "", (Py_ssize_t)(count * size));
}

static PyObject *result_of(const table *t, const uint8_t *counts, size_t bodies)
{
    PyObject *out = PyTuple_New(2 + VALUES);
    if (!out)
        return NULL;
    for (Py_ssize_t i = 0; i < 2 + VALUES; i++) {
        PyObject *part = i == 0   ? bytes_of(counts, bodies, sizeof *counts)
                         : i == 1 ? bytes_of(t->time_ms, t->count, sizeof *t->time_ms)
                                  : bytes_of(t->value[i - 2], t->count, sizeof *t->value[0]);
        if (!part || PyTuple_SetItem(out, i, part) < 0) {
            Py_DECREF(out);
            return NULL;
        }
    }
    return out;
}

static PyObject *decode_batches(PyObject *module, PyObject *args)
{
    const char *data, *ends_bytes;
    Py_ssize_t size, ends_size;
    (void)module;
    if (!PyArg_ParseTuple(args, "y#y#", &data, &size, &ends_bytes, &ends_size))
        return NULL;
    size_t bodies = (size_t)ends_size / sizeof(uint32_t);
    uint32_t *ends = malloc(bodies * sizeof *ends + 1);
    uint8_t *counts = malloc(bodies + 1);
    table t = {0};
    PyObject *out = NULL;
    if (!ends || !counts) {
        PyErr_NoMemory();
        goto done;
    }
    memcpy(ends, ends_bytes, bodies * sizeof *ends);
    for (size_t i = 0; i < bodies; i++)
        if (ends[i] > (size_t)size || (i && ends[i] < ends[i - 1])) {
            PyErr_SetString(PyExc_ValueError, "the ends of bodies must ascend within the data");
            goto done;
        }
    bool complete;
    Py_BEGIN_ALLOW_THREADS
    complete = decode_all((const uint8_t *)data, ends, bodies, counts, &t);
    Py_END_ALLOW_THREADS
    out = complete ? result_of(&t, counts, bodies) : PyErr_NoMemory();
done:
    table_free(&t);
    free(counts);
    free(ends);
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
     "    schema: time in unix ms (int64), the others in row units (int32).\n"},
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
