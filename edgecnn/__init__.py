"""edgecnn: fast CNN inference on edge CPUs, straight from Keras models.

import edgecnn

edgecnn.convert("model.h5", "model.ecnn")
model = edgecnn.load("model.ecnn")
y = model(x)
"""

from __future__ import annotations

from typing import Any

from edgecnn.errors import (
    BudgetError,
    ConversionError,
    CorruptFileError,
    DataFileError,
    DeviceError,
    Error,
    InputError,
    MissingPackageError,
    ModelFileError,
    UnsupportedLayerError,
    VerificationError,
    VersionError,
)
from edgecnn.runtime import model as _model
from edgecnn.runtime import profiling
from edgecnn.runtime.model import Memory, Model, TensorSpec, load
from edgecnn.runtime.profiling import Profile
from edgecnn.version import __version__

__all__ = [
    "BudgetError",
    "ConversionError",
    "CorruptFileError",
    "DataFileError",
    "DeviceError",
    "Error",
    "InputError",
    "Memory",
    "MissingPackageError",
    "Model",
    "ModelFileError",
    "Profile",
    "TensorSpec",
    "UnsupportedLayerError",
    "VerificationError",
    "VersionError",
    "__version__",
    "convert",
    "info",
    "load",
    "to_keras",
]

_LAZY = {
    "convert": "edgecnn.converters",
    "info": "edgecnn.tools.info",
    "to_keras": "edgecnn.accelerators.to_keras",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'edgecnn' has no attribute {name!r}")


def _save_profile(profile: Profile, path: Any) -> None:
    # The runtime may not know the tools; what draws pages and pictures is imported when a profile is saved.
    from edgecnn.tools.profile import save

    save(profile, path)


profiling.save_profile = _save_profile


def _open_device(device: str, precision: str) -> _model.Maker:
    # Nor may it know what computes elsewhere, which is imported when a model is loaded there.
    from edgecnn.accelerators.tensorflow import open_device

    return open_device(device, precision)


_model.open_device = _open_device
