"""For PyInstaller, which asks installed packages for their hooks (entry point `pyinstaller40`)."""

from __future__ import annotations

import os


def get_hook_dirs() -> list[str]:
    """Folders of hook files; see PyInstaller's manual, "Providing PyInstaller Hooks with your Package"."""
    return [os.path.dirname(__file__)]
