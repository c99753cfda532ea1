"""NumPy's arrays, without NumPy's headers."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer


cdef inline const void *values_of(array) except? NULL:
    """Where a contiguous array's values lie, for as long as somebody keeps it. A tenth of what `ctypes.data` takes."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    cdef const void *values = view.buf
    PyBuffer_Release(&view)
    return values
