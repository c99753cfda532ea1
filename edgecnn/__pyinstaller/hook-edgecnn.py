"""What a program that imports edgecnn needs beside what PyInstaller sees in Python code: what compiled modules import, what the
package imports on first use, and the files of pages and completions.

`to_keras` is left to programs that name its module: it would bring TensorFlow to every program.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

hiddenimports = ["edgecnn.converters", "edgecnn.tools.info"]
hiddenimports += [
    name for package in ("edgecnn.format", "edgecnn.graph", "edgecnn.runtime") for name in collect_submodules(package)
]
datas = collect_data_files("edgecnn", includes=["tools/pages/*", "cli/completions/*"])
