"""edgecnn prune: zero the weights of a Keras model that count least, and fine-tune the others."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgecnn.cli.command import Answer, Command, file_name
from edgecnn.cli.progress import progress
from edgecnn.errors import InputError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a Keras model (.keras, .h5 or .hdf5)")
    parser.add_argument(
        "--data",
        required=True,
        type=file_name,
        metavar="FILE",
        help=".npz with x and y, and x_val and y_val to measure accuracy on (default: a tenth is held back)",
    )
    parser.add_argument("--sparsity", type=float, metavar="S", help="share of the weights to zero (default: 0.8)")
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="normalised magnitude below which weights go, instead"
    )
    parser.add_argument(
        "--pattern",
        default="block",
        metavar="PATTERN",
        help="weight, block or block:N (N neighbouring output channels; 16), N:M (2:4), or channel (default: block)",
    )
    parser.add_argument(
        "--normalise", choices=("rms", "max", "none"), default="rms", help="what makes layers compare (default: rms)"
    )
    parser.add_argument("--scope", choices=("layer", "network"), default="layer", help="what the sparsity is of")
    parser.add_argument(
        "--layers", metavar="NAME,NAME,...", help="which to prune, as names or patterns such as block_*"
    )
    parser.add_argument("--schedule", choices=("gradual", "one-shot"), default="gradual", help="(default: gradual)")
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="of fine-tuning (default: 2)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="images in a batch (default: 32)")
    parser.add_argument("--learning-rate", type=float, metavar="R", help="(default: the saved optimizer's)")
    parser.add_argument(
        "--distill",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="let a classifier learn the answers of the model as it was: their share in the loss, such as 0.5 (default: 0)",
    )
    parser.add_argument("--loss", metavar="NAME", help="for a model that was saved without: a loss of Keras")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    parser.add_argument(
        "--resume",
        type=file_name,
        metavar="FILE",
        help=".npz that keeps each epoch: an interrupted run goes on from it",
    )
    parser.add_argument(
        "-o", "--output", type=file_name, metavar="FILE", help="default: beside the model, NAME_pruned.keras"
    )
    parser.add_argument("--ecnn", type=file_name, metavar="FILE", help="write the pruned model's .ecnn file as well")
    parser.add_argument("--force", action="store_true", help="replace the output files if they exist")


def _run(arguments: argparse.Namespace) -> Answer:
    from edgecnn.training.files import prune_file

    source = Path(arguments.model)
    output = Path(arguments.output) if arguments.output else source.with_name(f"{source.stem}_pruned.keras")
    if output.exists() and source.exists() and output.samefile(source):
        raise InputError(f"{output}: output and model are the same file; name another one with -o")
    with progress(f"pruning {source}") as tell:
        report = prune_file(
            source,
            arguments.data,
            output,
            ecnn=arguments.ecnn,
            loss=arguments.loss,
            overwrite=arguments.force,
            tell=tell,
            seed=arguments.seed,
            sparsity=arguments.sparsity,
            threshold=arguments.threshold,
            pattern=arguments.pattern,
            normalise=None if arguments.normalise == "none" else arguments.normalise,
            scope=arguments.scope,
            layers=arguments.layers.split(",") if arguments.layers else None,
            schedule=arguments.schedule,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            distill=arguments.distill,
            backup=arguments.resume,
        )
    return Answer(report.to_json(), str(report))


COMMAND = Command(
    "prune",
    "Zero the weights of a Keras model that count least, fine-tune, and show what it brought.",
    "edgecnn prune model.keras --data data.npz --sparsity 0.8 --pattern block",
    _add_arguments,
    _run,
    "Needs Keras. The model given stays as it is; docs/pruning.md tells how it is done.",
)
