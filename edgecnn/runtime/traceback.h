/* Comes before everything else in the C that Cython makes (see setup.py).

   In the limited API Cython adds its line of a traceback by running a line of Python, between the moment an exception is set
   and the moment it is caught or leaves. The interpreter runs the handlers of signals there. What they raise is lost, or, where an
   `except` of compiled code follows, taken for the exception that was set, of which nothing is left: a crash (Cython 3.3.1,
   `__Pyx_AddTraceback`, the only user of the two functions below). So compiled functions have no lines in tracebacks; signals are
   handled when Python code runs again. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifdef Py_LIMITED_API
#undef Py_CompileString
#define Py_CompileString(text, name, start) NULL
#define PyEval_EvalCode(code, globals, locals) NULL
#endif
