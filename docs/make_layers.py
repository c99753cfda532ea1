"""Writes docs/layers.md from the converter's registry: what is converted, and what is not and why."""

from __future__ import annotations

from pathlib import Path

from edgecnn.converters.layers import LAYERS, ONNX_REFUSED, REFUSED

HEAD = """# What can be converted

This page is made by `python docs/make_layers.py` from the registry in `converters/layers`; a test holds it to that. Each entry
takes every argument that the layer has at inference, both data formats included, unless its error says otherwise.
Your own layers: `edgecnn.converters.register("MyLayer", function)`.
"""
TABLE_HEAD = """What two or more sources have. An empty field is one that the source has no name for, or whose operator is not converted.
Activations of Keras layers stand in their `activation` argument, and are those of keras.ops."""
KINDS = (
    ("", "Keras layers"),
    ("ops.", "Functions of keras.ops in a functional model"),
    ("tf.", "TensorFlow functions in a functional model of Keras 2"),
    ("onnx.", "ONNX operators"),
    ("tflite.", "LiteRT operators"),
)

SOURCES = ("Keras layers", "keras.ops", "TensorFlow", "ONNX", "LiteRT")
SAME = {
    # What is the same under other names: the row's title, and names as `plain` writes them.
    "addition": "add addn biasadd sum",
    "average pooling": "averagepooling1d averagepooling2d averagepooling3d avgpool1d avgpool2d avgpool3d avgpool averagepool averagepool2d",
    "batch normalisation": "batchnormalization syncbatchnormalization",
    "clipping": "clip clipbyvalue",
    "concatenation": "concatenate concat concatenation",
    "convolution": "conv conv1d conv2d conv3d convolution1d convolution2d convolution3d",
    "convolution, depthwise": "depthwiseconv depthwiseconv1d depthwiseconv2d",
    "convolution, separable": "separableconv separableconv1d separableconv2d separableconvolution1d separableconvolution2d",
    "convolution, transposed": "convtranspose conv1dtranspose conv2dtranspose conv3dtranspose convolution1dtranspose "
    "convolution2dtranspose convolution3dtranspose deconvolution2d deconvolution3d transposeconv convolution2dtransposebias",
    "cropping and slices": "cropping1d cropping2d cropping3d centercrop slice stridedslice getitem split splitv unstack unpack",
    "dense layer, product of matrices": "dense matmul dot gemm fullyconnected batchmatmul",
    "depth to space": "depthtospace",
    "division": "divide div truedivide truediv dividenonan",
    "division, whole": "floordivide floordiv floormod mod",
    "equal, unequal": "equal notequal",
    "greater, less": "greater greaterequal greaterorequal less lessequal lessorequal",
    "gather, take": "gather take",
    "global pooling": "globalaveragepooling1d globalaveragepooling2d globalaveragepooling3d globalavgpool1d globalavgpool2d "
    "globalavgpool3d globalmaxpooling1d globalmaxpooling2d globalmaxpooling3d globalmaxpool1d globalmaxpool2d globalmaxpool3d "
    "globalaveragepool globalmaxpool",
    "hard sigmoid, hard swish": "hardsigmoid hardsilu hardswish",
    "layer, group, RMS normalisation": "layernorm layernormalization groupnormalization instancenormalization rmsnorm "
    "rmsnormalization meanvariancenormalization",
    "local response normalisation": "lrn localresponsenormalization edgecnn>localresponsenormalization",
    "logic": "and or not xor logicaland logicalor logicalnot logicalxor",
    "maximum pooling": "maxpool maxpool1d maxpool2d maxpool3d maxpooling1d maxpooling2d maxpooling3d",
    "maximum, minimum of two": "maximum minimum fmax fmin max min",
    "mean, sum, extremes along axes": "mean amax amin average reducemean reducesum reducemax reducemin reducel1 reducel2 "
    "reducesumsquare reducelogsum reducelogsumexp logsumexp std var reducestd reducevariance moments reduceprod",
    "multiplication": "multiply mul",
    "negation": "negative neg",
    "normalisation to unit length": "l2normalization l2normalize lpnormalization normalize unitnormalization norm",
    "padding": "pad mirrorpad zeropadding1d zeropadding2d zeropadding3d",
    "power": "pow power",
    "relu, with slope or bounds": "relu relu0to1 relu6 relun1to1 leakyrelu thresholdedrelu prelu threshold hardtanh",
    "repetition": "tile repeat repeatvector broadcastto expand",
    "reshape": "reshape flatten batchflatten ravel squeeze unsqueeze expanddims",
    "resize": "resize resizing resizebilinear resizenearestneighbor upsample upsampling1d upsampling2d upsampling3d",
    "reversal": "reverse flip flipleftright flipupdown",
    "select": "where select",
    "sigmoid": "sigmoid logistic",
    "space to depth": "spacetodepth",
    "stack": "stack pack",
    "subtraction": "subtract sub squareddifference",
    "swish": "swish silu",
    "transposition": "transpose permute moveaxis swapaxes",
}


def plain(name: str) -> str:
    """A name without its source, its module, its version and the marks between its words."""
    prefix = next((prefix for prefix, _ in KINDS if prefix and name.startswith(prefix)), "")
    return name.removeprefix(prefix).split(".")[-1].replace("_", "").lower().removesuffix("v2")


def sources_table() -> str:
    """What is converted from which source, by what is computed."""
    titles = {name: title for title, names in SAME.items() for name in names.split()}
    prefixes = tuple(prefix for prefix, _ in KINDS)
    rows: dict[str, list[list[str]]] = {}
    for name in sorted(LAYERS):
        column = next((i for i, prefix in enumerate(prefixes) if prefix and name.startswith(prefix)), 0)
        row = rows.setdefault(titles.get(plain(name), plain(name)), [[] for _ in SOURCES])
        row[column].append(f"`{name.removeprefix(prefixes[column])}`")
    lines = [f"| computes | {' | '.join(SOURCES)} |", "|---" * (len(SOURCES) + 1) + "|"]
    for title, row in sorted(rows.items()):
        if sum(map(bool, row)) > 1:
            lines.append(f"| {title} | {' | '.join(' '.join(names) for names in row)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    prefixes = tuple(prefix for prefix, _ in KINDS if prefix)
    for prefix, title in KINDS:
        chosen = (n for n in LAYERS if (n.startswith(prefix) if prefix else not n.startswith(prefixes)))
        names = sorted(name.removeprefix(prefix) for name in chosen)
        if names:
            parts.append(f"## {title}\n\n{', '.join(f'`{name}`' for name in names)}\n")
    parts.append(f"## From which source\n\n{TABLE_HEAD}\n\n{sources_table()}")
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
