"""Writes docs/layers.md from the converter's registry: what is converted, and what is not and why."""

from __future__ import annotations

from pathlib import Path

from edgecnn.converters.layers import LAYERS, ONNX_REFUSED, REFUSED

HEAD = """# What can be converted

This page is made by `python docs/make_layers.py` from the registry in `converters/layers`; a test holds it to that. Each entry
takes every argument that the layer has at inference, both data formats included, unless its error says otherwise.
Your own layers: `edgecnn.converters.register("MyLayer", function)`.
"""
KINDS = (
    ("", "Keras layers"),
    ("ops.", "Functions of keras.ops in a functional model"),
    ("tf.", "TensorFlow functions in a functional model of Keras 2"),
    ("onnx.", "ONNX operators"),
    ("tflite.", "LiteRT operators"),
)


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    prefixes = tuple(prefix for prefix, _ in KINDS if prefix)
    for prefix, title in KINDS:
        chosen = (n for n in LAYERS if (n.startswith(prefix) if prefix else not n.startswith(prefixes)))
        names = sorted(name.removeprefix(prefix) for name in chosen)
        if names:
            parts.append(f"## {title}\n\n{', '.join(f'`{name}`' for name in names)}\n")
    parts.append("## Not converted\n\n| layer | why | instead |\n|---|---|---|")
    parts += [f"| `{name}` | {reason} | {hint} |" for name, (reason, hint) in sorted(REFUSED.items())]
    parts.append("\n## Operators of ONNX that are not converted\n\n| operators | why | instead |\n|---|---|---|")
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, why in sorted(ONNX_REFUSED.items()):
        reasons.setdefault(why, []).append(f"`{name}`")
    parts += [f"| {', '.join(names)} | {reason} | {hint} |" for (reason, hint), names in reasons.items()]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("layers.md").write_text(page(), encoding="utf-8")
