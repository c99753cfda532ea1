/* Comes before everything else in the C that Cython makes (see setup.py).

   In the limited API Cython adds its line of a traceback by running a line of Python, between the moment an exception is set
   and the moment it is caught or leaves (Cython 3.2 and 3.3, `__Pyx_AddTraceback`, the only user of Py_CompileString and PyEval_EvalCode). The
   interpreter runs the handlers of signals there. If one raises, that exception is lost, and the first one has no traceback:
   an `except` in compiled code then releases a NULL, and the process ends. So compiled functions add no lines to tracebacks,
   signals are handled when Python code runs again, and an exception without a traceback is caught with None for one. */
#ifndef EC_TRACEBACK_H
#define EC_TRACEBACK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifdef Py_LIMITED_API
#undef Py_CompileString
#define Py_CompileString(text, name, start) NULL
#define PyEval_EvalCode(code, globals, locals) NULL

static inline void ec_normalize_exception(PyObject **type, PyObject **value, PyObject **traceback) {
    PyErr_NormalizeException(type, value, traceback);
    if (*type && !*traceback) {
        Py_INCREF(Py_None);
        *traceback = Py_None;
    }
}
#define PyErr_NormalizeException ec_normalize_exception
#endif
#endif
