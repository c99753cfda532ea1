"""What sections are made of: integers, floats, strings, as `Output` writes them and `Input` reads them.

Little-endian. Integers are unsigned LEB128 ("varints"), in their shortest form. A file of a few hundred nodes holds
tens of thousands of them, and loading waits for all: hence compiled.
"""

import struct

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from edgecnn.errors import CorruptFileError, GraphError


class Output:
    """Builds a section from primitives. What a reader would refuse is a GraphError."""

    def __init__(self):
        self.data = bytearray()

    def varint(self, value):
        """An unsigned integer, seven bits a byte, the lowest first."""
        if not 0 <= value < 2**64:
            raise GraphError("a number is negative or longer than the 64 bits that the file has for it")
        while value >= 0x80:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)

    def signed(self, value):
        """A signed integer, zigzag: 0, -1, 1, -2 ... as 0, 1, 2, 3 ..."""
        self.varint(value << 1 if value >= 0 else (-value << 1) - 1)

    def double(self, value):
        """IEEE 754 binary64."""
        self.data += struct.pack("<d", value)

    def text(self, value):
        """Length in bytes, then UTF-8."""
        try:
            encoded = value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise GraphError(f"name {value!r} is not Unicode text: it holds half of a surrogate pair") from error
        self.varint(len(encoded))
        self.data += encoded


cdef class Input:
    """Reads a section's primitives; every way of being wrong is a CorruptFileError that says where.

    What is read has a name for the error: a string, or a format and what goes into it, made a text only then.

    Args:
        data: the section's bytes.
        where: how to call it in errors.
    """

    cdef Py_buffer view
    cdef const unsigned char *start
    cdef readonly size_t at, size
    cdef readonly object where

    def __cinit__(self, data, where):
        PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)
        self.start, self.size = <const unsigned char *>self.view.buf, <size_t>self.view.len
        self.where = where

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    def fail(self, message):
        """The error for the present position."""
        return CorruptFileError(f"{self.where}, byte {self.at}: {message}")

    cdef said(self, what, message):
        """The error of a thing that has a name."""
        name = what[0].format(*what[1:]) if isinstance(what, tuple) else what
        return self.fail(message.format(name))

    cdef uint64_t number(self, what) except? 0xFFFFFFFFFFFFFFFF:
        cdef uint64_t value = 0
        cdef int shift = 0
        cdef unsigned char byte
        while True:
            if self.at >= self.size:
                raise self.said(what, "the section ends inside {}")
            byte = self.start[self.at]
            self.at += 1
            # Of the tenth byte one bit is left.
            if shift == 63 and byte > 1:
                raise self.said(what, "{} is longer than 64 bits")
            value |= <uint64_t>(byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        if byte == 0 and shift > 0:
            raise self.said(what, "{} is not in its shortest form")
        return value

    def varint(self, below=None, what="a number"):
        """An unsigned integer, less than `below` if given."""
        value = self.number(what)
        if below is not None and value >= below:
            raise self.said(what, f"{{}} is {value}; wanted less than {below}")
        return value

    cdef uint64_t less(self, uint64_t below, what) except? 0xFFFFFFFFFFFFFFFF:
        cdef uint64_t value = self.number(what)
        if value >= below:
            raise self.said(what, f"{{}} is {value}; wanted less than {below}")
        return value

    def varints(self, uint64_t fewer, how_many, uint64_t below, what):
        """A number of less than `fewer`, then so many unsigned integers less than `below`: a tuple."""
        return tuple([self.less(below, what) for _ in range(self.less(fewer, how_many))])

    def item(self, list items, what):
        """One of a list's items, by its index."""
        return items[self.less(<uint64_t>len(items), what)]

    def items(self, list items, how_many, what):
        """A number, then so many of a list's items, by their indices: a tuple."""
        return tuple([self.item(items, what) for _ in range(self.count(how_many))])

    def references(self, list odd, list even, node):
        """The inputs of a node: a number, then so many references to items of two lists, 0 to none (""), 1, 3, 5 ... to
        the first, second, third of the one, 2, 4, 6 ... of the other. A tuple."""
        cdef uint64_t below = 2 * <uint64_t>max(len(odd), len(even)) + 1, index, place
        cdef list found = []
        cdef list known
        for _ in range(self.count("inputs")):
            index = self.less(below, "an input")
            if index == 0:
                found.append("")
                continue
            known, place = odd if index & 1 else even, (index - 1) >> 1
            if place >= <uint64_t>len(known):
                raise self.fail(f"node {node!r} reads number {place} of {len(known)}")
            found.append(known[place])
        return tuple(found)

    def signed(self):
        """A zigzag integer."""
        cdef uint64_t value = self.number("a number")
        return value >> 1 if value & 1 == 0 else -<object>(value >> 1) - 1

    def signeds(self, uint64_t fewer, how_many):
        """A number of less than `fewer`, then so many zigzag integers: a tuple."""
        return tuple([self.signed() for _ in range(self.less(fewer, how_many))])

    def count(self, what):
        """A number of items that follow; each takes a byte at least, so that it can never exceed what is left."""
        return self.less(self.size - self.at + 1, ("the number of {}", what))

    cdef const unsigned char *raw(self, uint64_t size, what) except? NULL:
        """Where the next bytes are."""
        if size > self.size - self.at:
            raise self.said(what, f"{{}} takes {size} bytes; {self.size - self.at} are left")
        self.at += <size_t>size
        return self.start + self.at - <size_t>size

    def double(self):
        """IEEE 754 binary64."""
        cdef const unsigned char *bytes = self.raw(8, "a float")
        cdef uint64_t bits = 0
        cdef double value
        cdef int i
        for i in range(8):
            bits |= <uint64_t>bytes[i] << (8 * i)
        memcpy(&value, &bits, 8)
        return value

    def doubles(self, uint64_t fewer, how_many):
        """A number of less than `fewer`, then so many floats: a tuple."""
        return tuple([self.double() for _ in range(self.less(fewer, how_many))])

    def text(self):
        """Length in bytes, then UTF-8."""
        cdef uint64_t size = self.number("a string's length")
        cdef const unsigned char *bytes = self.raw(size, "a string")
        try:
            return PyUnicode_DecodeUTF8(<const char *>bytes, <Py_ssize_t>size, NULL)
        except UnicodeDecodeError as error:
            raise self.fail(f"a string is not UTF-8: {error.reason}") from error

    def since(self, size_t begin):
        """The bytes that have been read from a position on."""
        return (<const char *>self.start)[begin:self.at]

    def again(self, list read):
        """What was read before from the same bytes as those that follow, which are skipped; None if they are others.

        Args:
            read: (bytes, what they gave); the bytes of no record are the beginning of another's.
        """
        cdef bytes raw
        cdef size_t size
        for raw, value in read:
            size = len(raw)
            if size <= self.size - self.at and memcmp(<const char *>raw, self.start + self.at, size) == 0:
                self.at += size
                return value
        return None

    def end(self):
        """Nothing may follow."""
        if self.at != self.size:
            raise self.fail(f"{self.size - self.at} bytes follow the section's last record")
