"""The .ecnn file: one file with everything that a device needs. docs/format.md describes every byte.

container.py  header, section table, and the primitives that sections are made of
foreign.py    model files that are not ours, by how they begin
encodings.py  how a constant's values become bytes, and back
writer.py     graph -> file
reader.py     file -> graph; trusts nothing
"""

from edgecnn.format.container import VERSION
from edgecnn.format.reader import ConstantInfo, FileInfo, describe, read, reading
from edgecnn.format.writer import encode, write

__all__ = ["VERSION", "ConstantInfo", "FileInfo", "describe", "encode", "read", "reading", "write"]
