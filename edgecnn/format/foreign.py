"""Model files that are not ours, known by how they begin."""

from __future__ import annotations

HDF5, ZIP, LITERT = b"\x89HDF\r\n\x1a\n", b"PK", b"TFL3"
"""What .h5, .keras and .tflite files begin with, the last one behind four bytes. ONNX files begin with nothing of their own."""


def foreign_kind(start: bytes, name: str) -> str:
    """What a model file of another framework is; empty: none that is known.

    Args:
        start: its first eight bytes, or more.
        name: the file's; it tells ONNX models.
    """
    if start.startswith(ZIP):
        return "a Keras model (.keras)" if name.lower().endswith(".keras") else "a zip archive, as .keras files are"
    if start.startswith(HDF5):
        return "an HDF5 file, as Keras writes them (.h5)"
    if start[4:8] == LITERT:
        return "a LiteRT model (.tflite)"
    return "an ONNX model (.onnx)" if name.lower().endswith(".onnx") else ""
