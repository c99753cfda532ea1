"""What all tests need before they, and TensorFlow, whose Keras gives them their expected values, are imported."""

import multiprocessing
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow takes oneDNN's kernels on some CPUs. In TensorFlow 2.21 they give wrong values: convolutions of channels_first
# images whose strides differ, and some of channels_last images, read memory that was never written.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

if "EDGECNN_PYTHON" in os.environ:
    # On an emulated CPU this interpreter cannot be started by its own name.
    sys.executable = os.environ["EDGECNN_PYTHON"]
    multiprocessing.set_executable(sys.executable)


def pytest_configure(config: pytest.Config) -> None:
    """No test fails because the machine is slow. The sweeps draw new cases each time; the tests that run by default draw the
    same ones, whoever runs them."""
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("repeatable", settings.get_profile("any machine"), derandomize=True)
    settings.load_profile("repeatable" if "not sweep" in config.getoption("-m") else "any machine")
