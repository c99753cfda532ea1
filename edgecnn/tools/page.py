"""Pages for a browser: one file each, which holds its style, its script and its data and asks for nothing from anywhere.

The parts lie in pages/: page.html is the frame, page.css and page.js are every page's, and NAME.js draws the page NAME from
its data. Data enter the frame as JSON in which no markup can be, and the page as text, never as markup: names in model files
are strangers'. A policy in the frame forbids the browser to load anything.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from edgecnn.tools.text import printable
from edgecnn.version import __version__


def render(name: str, title: str, data: Mapping[str, Any]) -> str:
    """A whole page.

    Args:
        name: of the script in pages/ that draws it ("profile").
        title: for the browser's tab.
        data: what JSON can hold.
    """
    record = plain({"edgecnn": __version__, **data})
    # In a script element "<" alone could begin the end of it.
    text = json.dumps(record, ensure_ascii=True, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "title": html.escape(printable(title)),
        "css": _part("page.css"),
        "data": text,
        "js": _part("page.js") + _part(f"{name}.js"),
    }
    page = _part("page.html")
    for key, value in parts.items():
        head, mark, tail = page.partition(f"@{key}@")
        assert mark, f"page.html has no place for {key}"
        # What has been filled in is not looked at again: data may hold anything.
        parts[key] = head + value
        page = tail
    return "".join(parts.values()) + page


def plain(value: Any) -> Any:
    """The value as strict JSON has it: no NaN or infinity (they become null), every text printable."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return printable(value, keep="\n")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _part(name: str) -> str:
    return (resources.files("edgecnn.tools") / "pages" / name).read_text(encoding="utf-8")
