"""edgecnn verify: does this CPU reproduce the file's golden sample?"""

from __future__ import annotations

import argparse

from edgecnn.cli.command import Answer, Command
from edgecnn.cli.progress import progress


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="an .ecnn file, converted with --verify")
    parser.add_argument("--threads", type=int, metavar="N", help="default: what the process may use")


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.tools.verify import verify

    with progress(f"verifying {arguments.model}"):
        result = verify(arguments.model, threads=arguments.threads)
    return Answer({"model": arguments.model, **result.to_json()}, str(result))


COMMAND = Command(
    "verify",
    "Compute a file's golden sample on this CPU and compare; exit code 5 if an answer is off.",
    "edgecnn verify model.ecnn",
    _add_arguments,
    _run,
    "The sample was computed in float64 by the plain meaning of the operators when the file was made (edgecnn convert --verify), with no\n"
    "kernel of the runtime.",
)
