/* What codec.py and scrub.py ask of every byte of a head and of an answer, in C (docs/decisions/0009).

   Each function is the twin of a Python one, which is used where this module was not built. split_head() reads the
   plain case only: for any head it does not like it returns None, and the Python one says what is wrong with it.

   Memory: every argument is an exact bytes object, which cannot change, and is held by the caller for the length of
   the call. Every index is compared with a length before it is used; no length is read out of the data. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* Heads of more lines are rare, and Python reads them. */
#define MAX_LINES 128

/* Of holds_any(): four bytes of the data are looked at in every so many, and say whether more must be. */
#define BLOCK 4
#define TABLE_BITS 15
#define TABLE_BYTES ((1 << TABLE_BITS) / 8)
/* How many bytes of patterns may be compared for each byte of data. In an answer that is no echo there is less than one;
   data much like a long pattern could have each compared at every place. */
#define MOST_COMPARED 64

/* A line is text[start:end]; its name with the colon is text[start:named], empty where there is no colon. */
typedef struct {
    Py_ssize_t start, named, end;
} Line;

static Py_ssize_t
find_byte(const char *text, Py_ssize_t start, Py_ssize_t end, char byte)
{
    const char *found = start < end ? memchr(text + start, byte, (size_t)(end - start)) : NULL;
    return found == NULL ? end : found - text;
}

/* RFC 9110 section 5.5: tab, space, visible ASCII, obs-text; and line ends, which are looked at one by one. No branch,
   and one loop for a whole head, so that the compiler does many bytes at once. */
static int
is_text(const char *text, Py_ssize_t size)
{
    unsigned char bad = 0;
    for (Py_ssize_t at = 0; at < size; at++) {
        unsigned char byte = (unsigned char)text[at];
        bad |= (unsigned char)(((byte < 0x20) & (byte != '\t') & (byte != '\r') & (byte != '\n')) | (byte == 0x7f));
    }
    return !bad;
}

/* Returns how many lines there are; 0 for a head that is left to Python. */
static int
find_lines(const char *text, Py_ssize_t size, Line *lines)
{
    Py_ssize_t start = 0;
    if (!is_text(text, size)) {
        return 0;
    }
    for (int count = 0; count < MAX_LINES; count++) {
        Py_ssize_t end = find_byte(text, start, size, '\n');
        if (end < size && (end == start || text[--end] != '\r')) {
            return 0; /* an LF by itself */
        }
        if (find_byte(text, start, end, '\r') != end) {
            return 0; /* a CR by itself */
        }
        Py_ssize_t colon = find_byte(text, start, end, ':');
        if (count > 0 && colon == end) {
            return 0; /* a line without a colon */
        }
        lines[count] = (Line){start, colon < end ? colon + 1 : start, end};
        if (end == size) {
            return count + 1;
        }
        start = end + 2;
    }
    return 0;
}

PyDoc_STRVAR(split_head_doc,
"split_head(head, /)\n--\n\n"
"Return the first line, the names of the others run together, and the others; None for a head with a fault.");

static PyObject *
split_head(PyObject *Py_UNUSED(module), PyObject *head)
{
    Line found[MAX_LINES];
    if (!PyBytes_CheckExact(head)) {
        PyErr_SetString(PyExc_TypeError, "a head is bytes");
        return NULL;
    }
    const char *text = PyBytes_AS_STRING(head);
    int count = find_lines(text, PyBytes_GET_SIZE(head), found);
    if (count == 0) {
        Py_RETURN_NONE;
    }
    Py_ssize_t length = 0;
    for (int index = 1; index < count; index++) {
        length += found[index].named - found[index].start;
    }
    PyObject *first = PyBytes_FromStringAndSize(text, found[0].end);
    PyObject *names = PyBytes_FromStringAndSize(NULL, length);
    PyObject *lines = PyTuple_New(count - 1);
    PyObject *result = PyTuple_New(3);
    if (first == NULL || names == NULL || lines == NULL || result == NULL) {
        goto failed;
    }
    char *out = PyBytes_AS_STRING(names);
    for (int index = 1; index < count; index++) {
        const Line *one = &found[index];
        size_t size = (size_t)(one->named - one->start);
        memcpy(out, text + one->start, size);
        out += size;
        PyObject *line = PyBytes_FromStringAndSize(text + one->start, one->end - one->start);
        if (line == NULL) {
            goto failed;
        }
        PyTuple_SET_ITEM(lines, index - 1, line);
    }
    PyTuple_SET_ITEM(result, 0, first);
    PyTuple_SET_ITEM(result, 1, names);
    PyTuple_SET_ITEM(result, 2, lines);
    return result;

failed:
    Py_XDECREF(first);
    Py_XDECREF(names);
    Py_XDECREF(lines);
    Py_XDECREF(result);
    return NULL;
}

PyDoc_STRVAR(field_value_doc,
"field_value(line, /)\n--\n\n"
"Return what stands behind the first colon of a line, without the spaces and tabs around it.");

static PyObject *
field_value(PyObject *Py_UNUSED(module), PyObject *line)
{
    if (!PyBytes_CheckExact(line)) {
        PyErr_SetString(PyExc_TypeError, "a line is bytes");
        return NULL;
    }
    const char *text = PyBytes_AS_STRING(line);
    Py_ssize_t end = PyBytes_GET_SIZE(line);
    Py_ssize_t start = find_byte(text, 0, end, ':');
    start = start < end ? start + 1 : end;
    while (start < end && (text[start] == ' ' || text[start] == '\t')) {
        start++;
    }
    while (end > start && (text[end - 1] == ' ' || text[end - 1] == '\t')) {
        end--;
    }
    return PyBytes_FromStringAndSize(text + start, end - start);
}

PyDoc_STRVAR(head_end_doc,
"head_end(data, most_lines, /)\n--\n\n"
"Return where the first empty line begins; -1 where none does, -2 where more than so many line ends stand before it.");

static PyObject *
head_end(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t given)
{
    if (given != 2 || !PyBytes_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "head_end() takes bytes and a number");
        return NULL;
    }
    Py_ssize_t most = PyLong_AsSsize_t(args[1]);
    if (most == -1 && PyErr_Occurred()) {
        return NULL;
    }
    const char *text = PyBytes_AS_STRING(args[0]);
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]);
    Py_ssize_t count = 0;
    for (Py_ssize_t at = find_byte(text, 0, size, '\r'); size - at >= 4; at = find_byte(text, at + 1, size, '\r')) {
        if (memcmp(text + at, "\r\n\r\n", 4) == 0) {
            return PyLong_FromSsize_t(count > most ? -2 : at);
        }
        count += text[at + 1] == '\n';
    }
    return PyLong_FromLong(-1);
}

PyDoc_STRVAR(cut_request_line_doc,
"cut_request_line(line, /)\n--\n\n"
"Return method, target and version; None for a line with a fault in its spaces or in its target.");

static PyObject *
cut_request_line(PyObject *Py_UNUSED(module), PyObject *line)
{
    if (!PyBytes_CheckExact(line)) {
        PyErr_SetString(PyExc_TypeError, "a line is bytes");
        return NULL;
    }
    const char *text = PyBytes_AS_STRING(line);
    Py_ssize_t end = PyBytes_GET_SIZE(line);
    Py_ssize_t first = find_byte(text, 0, end, ' ');
    Py_ssize_t second = find_byte(text, first + 1, end, ' ');
    if (second >= end || second == first + 1 || find_byte(text, second + 1, end, ' ') != end) {
        Py_RETURN_NONE;
    }
    unsigned char bad = 0;
    for (Py_ssize_t at = first + 1; at < second; at++) {
        bad |= (unsigned char)((text[at] == '\t') | ((unsigned char)text[at] > 0x7f));
    }
    if (bad) {
        Py_RETURN_NONE;
    }
    PyObject *result = PyTuple_New(3);
    PyObject *method = PyBytes_FromStringAndSize(text, first);
    PyObject *target = PyBytes_FromStringAndSize(text + first + 1, second - first - 1);
    PyObject *version = PyBytes_FromStringAndSize(text + second + 1, end - second - 1);
    if (result == NULL || method == NULL || target == NULL || version == NULL) {
        Py_XDECREF(result);
        Py_XDECREF(method);
        Py_XDECREF(target);
        Py_XDECREF(version);
        return NULL;
    }
    PyTuple_SET_ITEM(result, 0, method);
    PyTuple_SET_ITEM(result, 1, target);
    PyTuple_SET_ITEM(result, 2, version);
    return result;
}

static char *
put(char *out, PyObject *bytes)
{
    memcpy(out, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    return out + PyBytes_GET_SIZE(bytes);
}

PyDoc_STRVAR(join_lines_doc,
"join_lines(start, lines, end, /)\n--\n\n"
"Return a head: start, lines and end, with a line end between each and the next.");

/* Nothing between the first look at a length and the last copy runs Python or frees an object: a list stays as it is. */
static PyObject *
join_lines(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t given)
{
    if (given != 3 || !PyBytes_CheckExact(args[0]) || !PyBytes_CheckExact(args[2]) ||
        !(PyTuple_CheckExact(args[1]) || PyList_CheckExact(args[1]))) {
        PyErr_SetString(PyExc_TypeError, "join_lines() takes bytes, a list or tuple of bytes, and bytes");
        return NULL;
    }
    PyObject **lines = PySequence_Fast_ITEMS(args[1]);
    Py_ssize_t count = PySequence_Fast_GET_SIZE(args[1]);
    Py_ssize_t left = PY_SSIZE_T_MAX - 64; /* what a bytes object may hold, and room for its own head */
    for (Py_ssize_t index = -2; index < count; index++) {
        PyObject *one = index == -2 ? args[0] : index == -1 ? args[2] : lines[index];
        if (!PyBytes_CheckExact(one)) {
            PyErr_SetString(PyExc_TypeError, "a line is bytes");
            return NULL;
        }
        if (left < 2 || PyBytes_GET_SIZE(one) > left - 2) {
            return PyErr_NoMemory();
        }
        left -= PyBytes_GET_SIZE(one) + 2;
    }
    /* One line end less than there are parts. */
    PyObject *result = PyBytes_FromStringAndSize(NULL, PY_SSIZE_T_MAX - 64 - left - 2);
    if (result == NULL) {
        return NULL;
    }
    char *out = put(PyBytes_AS_STRING(result), args[0]);
    for (Py_ssize_t index = 0; index < count; index++) {
        *out++ = '\r';
        *out++ = '\n';
        out = put(out, lines[index]);
    }
    *out++ = '\r';
    *out++ = '\n';
    put(out, args[2]);
    return result;
}

static uint32_t
block_at(const char *text)
{
    uint32_t block;
    memcpy(&block, text, BLOCK);
    return block;
}

/* Knuth's multiplicative hash: the bit of a table that stands for a block. */
static uint32_t
bit_of(uint32_t block)
{
    return (block * 2654435761u) >> (32 - TABLE_BITS);
}

/* Returns the length of the shortest pattern; -1 where one is no bytes object or shorter than a block. */
static Py_ssize_t
shortest(PyObject *patterns)
{
    Py_ssize_t least = PY_SSIZE_T_MAX;
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(patterns); index++) {
        PyObject *pattern = PyTuple_GET_ITEM(patterns, index);
        if (!PyBytes_CheckExact(pattern) || PyBytes_GET_SIZE(pattern) < BLOCK) {
            PyErr_SetString(PyExc_TypeError, "a pattern is four or more bytes");
            return -1;
        }
        least = Py_MIN(least, PyBytes_GET_SIZE(pattern));
    }
    return least;
}

PyDoc_STRVAR(scan_table_doc,
"scan_table(patterns, /)\n--\n\n"
"Return the table that holds_any() wants with these patterns.");

/* A bit for every block within the first bytes of a pattern, as many of them as the shortest pattern has. */
static PyObject *
scan_table(PyObject *Py_UNUSED(module), PyObject *patterns)
{
    if (!PyTuple_CheckExact(patterns)) {
        PyErr_SetString(PyExc_TypeError, "patterns are a tuple");
        return NULL;
    }
    Py_ssize_t least = shortest(patterns);
    if (least < 0) {
        return NULL;
    }
    PyObject *table = PyBytes_FromStringAndSize(NULL, TABLE_BYTES);
    if (table == NULL) {
        return NULL;
    }
    unsigned char *bits = (unsigned char *)PyBytes_AS_STRING(table);
    memset(bits, 0, TABLE_BYTES);
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(patterns); index++) {
        const char *text = PyBytes_AS_STRING(PyTuple_GET_ITEM(patterns, index));
        for (Py_ssize_t at = 0; at + BLOCK <= least; at++) {
            uint32_t bit = bit_of(block_at(text + at));
            bits[bit >> 3] |= (unsigned char)(1u << (bit & 7));
        }
    }
    return table;
}

/* Whether a pattern stands in text[:size] so that its block that begins at one of its first `stride` bytes is at `at`.
   What may still be compared is taken from `left`; below zero the answer says nothing. */
static int
is_any_around(PyObject *patterns, const char *text, Py_ssize_t size, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t *left)
{
    uint32_t block = block_at(text + at);
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(patterns); index++) {
        const char *pattern = PyBytes_AS_STRING(PyTuple_GET_ITEM(patterns, index));
        Py_ssize_t length = PyBytes_GET_SIZE(PyTuple_GET_ITEM(patterns, index));
        for (Py_ssize_t before = 0; before < stride && before <= at; before++) {
            if (block_at(pattern + before) == block && length <= size - (at - before)) {
                *left -= length;
                if (*left < 0) {
                    return 0;
                }
                if (memcmp(pattern, text + at - before, (size_t)length) == 0) {
                    return 1;
                }
            }
        }
    }
    return 0;
}

/* Whether a pattern stands in text[:size]: slower where nothing is like it, but in linear time whatever stands there. */
static int
is_any_within(PyObject *patterns, const char *text, Py_ssize_t size)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(patterns); index++) {
        PyObject *pattern = PyTuple_GET_ITEM(patterns, index);
        if (memmem(text, (size_t)size, PyBytes_AS_STRING(pattern), (size_t)PyBytes_GET_SIZE(pattern)) != NULL) {
            return 1;
        }
    }
    return 0;
}

PyDoc_STRVAR(holds_any_doc,
"holds_any(data, patterns, table, /)\n--\n\n"
"Whether any of the patterns stands in data; table is what scan_table() made of them.");

/* A pattern of at least `least` bytes that stands in the data has, among its first `least`, a block at every place of
   `stride` places in a row: at one of them we look. Looks do not wait for one another, as they would where each says how
   far the next may go. */
static PyObject *
holds_any(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t given)
{
    if (given != 3 || !PyBytes_CheckExact(args[0]) || !PyTuple_CheckExact(args[1]) || !PyBytes_CheckExact(args[2]) ||
        PyBytes_GET_SIZE(args[2]) != TABLE_BYTES) {
        PyErr_SetString(PyExc_TypeError, "holds_any() takes bytes, a tuple of bytes and their table");
        return NULL;
    }
    Py_ssize_t least = shortest(args[1]);
    if (least < 0) {
        return NULL;
    }
    const char *text = PyBytes_AS_STRING(args[0]);
    const unsigned char *bits = (const unsigned char *)PyBytes_AS_STRING(args[2]);
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]);
    if (size < least) {
        Py_RETURN_FALSE;
    }
    Py_ssize_t stride = least - BLOCK + 1;
    Py_ssize_t left = size > PY_SSIZE_T_MAX / MOST_COMPARED ? PY_SSIZE_T_MAX : size * MOST_COMPARED;
    for (Py_ssize_t at = 0; at <= size - BLOCK; at += stride) {
        uint32_t bit = bit_of(block_at(text + at));
        if ((bits[bit >> 3] >> (bit & 7)) & 1) {
            if (is_any_around(args[1], text, size, at, stride, &left)) {
                Py_RETURN_TRUE;
            }
            if (left < 0) {
                return PyBool_FromLong(is_any_within(args[1], text, size));
            }
        }
    }
    Py_RETURN_FALSE;
}

static PyMethodDef methods[] = {
    {"split_head", split_head, METH_O, split_head_doc},
    {"field_value", field_value, METH_O, field_value_doc},
    {"head_end", (PyCFunction)(void (*)(void))head_end, METH_FASTCALL, head_end_doc},
    {"cut_request_line", cut_request_line, METH_O, cut_request_line_doc},
    {"join_lines", (PyCFunction)(void (*)(void))join_lines, METH_FASTCALL, join_lines_doc},
    {"scan_table", scan_table, METH_O, scan_table_doc},
    {"holds_any", (PyCFunction)(void (*)(void))holds_any, METH_FASTCALL, holds_any_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_scan",
    .m_doc = "Every byte of a head and of an answer, looked at in C.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__scan(void)
{
    return PyModuleDef_Init(&definition);
}
