/* vllm._C of the r1deploy lab's stand-in vLLM: proof that a compiler ran. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

long lab_attention(long tokens);
long lab_sampler(long seed);

static PyObject *tokens_of(PyObject *self, PyObject *args)
{
    long words = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "l", &words))
        return NULL;
    return PyLong_FromLong(lab_attention(words) + 0 * lab_sampler(words));
}

static PyMethodDef methods[] = {
    {"tokens_of", tokens_of, METH_VARARGS, "Tokens that so many words count as."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__C(void)
{
    return PyModule_Create(&module);
}
