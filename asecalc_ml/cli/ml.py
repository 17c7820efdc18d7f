"""`asecalc-ml`: data, training and models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config
from asecalc_ml.cli import kinds, summary, templates
from asecalc_ml.cli.app import App
from asecalc_ml.cli.arguments import OPEN, Quiet, Strict, Version, override, read_options
from asecalc_ml.cli.commands import (
    calibrate,
    check,
    doctor,
    draw_map,
    evaluate,
    explain,
    import_models,
    models,
    predict,
)
from asecalc_ml.cli.commands.compile import compile_model
from asecalc_ml.cli.commands.train import check_training, train
from asecalc_ml.cli.errors import FriendlyGroup
from asecalc_ml.cli.process import prepare_process, set_threads, show_messages
from asecalc_ml.cli.structures import reader
from asecalc_ml.cli.tune.command import check_search_start, tune
from asecalc_ml.cli.tune.retrain import retrain

if TYPE_CHECKING:
    from asecalc_ml.potentials.datasets.generation.generate import GenerateOptions

app = App(cls=FriendlyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
data_app = App(no_args_is_help=True, help="Make or download labelled structures.")
app.add_typer(data_app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(import_models.app, name="import")
app.command("compile")(compile_model)
app.command("check", context_settings=OPEN)(check.check)
app.command("explain", context_settings=OPEN)(explain.explain)
app.command("doctor")(doctor.doctor)
app.command("predict")(predict.predict)
app.command("eval", context_settings=OPEN)(evaluate.evaluate)
app.command("calibrate", context_settings=OPEN)(calibrate.calibrate)
app.command("map", context_settings=OPEN)(draw_map.draw_map)
app.command("train", context_settings=OPEN)(train)
app.command("tune", context_settings=OPEN)(tune)
app.command("retrain", context_settings=OPEN)(retrain)

#: Option models of the YAML files, each loaded where it is asked for.
FILES = {
    "train": "asecalc_ml.potentials.training.options:TrainOptions",
    "tune": "asecalc_ml.potentials.tuning.options:TuneOptions",
    "generate": "asecalc_ml.potentials.datasets.generation.generate:GenerateOptions",
}

Name = Annotated[
    str,
    typer.Argument(
        help="train (a training), tune (a search), generate (`data generate`), or the name of an "
        "architecture, a dataset reader or another plugin, such as schnet."
    ),
]


def main() -> None:
    """Entry point of `asecalc-ml`."""
    app()


@app.callback()
def _common(version: Version = False) -> None:
    """Train, test and keep interatomic potentials."""
    prepare_process()


@app.command(context_settings=OPEN)
def validate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="YAML file of a training, a search or of `data generate`.")],
    replace: Annotated[bool, typer.Option("--replace", help="As for `train`.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="As for `data generate`.")] = False,
    strict: Strict = False,
) -> None:
    """Do everything that `train`, `tune` or `data generate` does before its first step, and write nothing.

    Options of the file can be given here too, as for these commands: `--split.n_train 100`.
    """
    data = read_options(file, context.args)
    kinds.check_kind(data, (kinds.TRAINING, kinds.TUNING, kinds.GENERATION), str(file))
    show_messages(quiet=False)
    kind = kinds.kind_of(data)
    if kind is kinds.GENERATION:
        generation = check_generation(data, str(file))
        set_threads(1)
        lines = summary.of_generation(generation, generation.check(overwrite))
    elif kind is kinds.TUNING:
        lines = summary.of_search(*check_search_start(data, file))
    else:
        options = check_training(data, str(file))
        set_threads(options.threads)
        from asecalc_ml.potentials.training import TrainingRequest
        from asecalc_ml.potentials.training.run import check as check_start

        start = check_start(TrainingRequest(options, replace=replace, strict=strict))
        lines = summary.of_training(options, start)
    typer.echo(f"{file} is valid: {lines}")


@app.command()
def schema(name: Name, group: templates.Group = None) -> None:
    """Print the JSON schema of a YAML file, for editors that complete and check it."""
    typer.echo(json.dumps(config.schema(templates.option_model(name, FILES, group)), indent=2))


@app.command()
def template(name: Name, group: templates.Group = None) -> None:
    """Print the YAML of a training, or of any plugin, with every option at its default and its meaning."""
    typer.echo(templates.template(name, FILES, group), nl=False)


@data_app.command(context_settings=OPEN)
def generate(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help="A structure (ethanol, smiles:CCO, file.xyz), or a YAML file.")
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    quiet: Quiet = False,
) -> None:
    """Sample a molecule with GFN2-xTB and write frames with energies and forces.

    Options follow the structure: ethanol --temperatures-K "[300, 500]" --output x.xyz
    `asecalc-ml template generate` lists them all.
    """
    from_file = source.endswith((".yaml", ".yml"))
    data = read_options(source, context.args) if from_file else override({"structure": source}, context.args)
    options = check_generation(data, source if from_file else "options")
    set_threads(1)  # molecules are small
    typer.echo(f"Wrote {options.run(overwrite=overwrite, quiet=quiet)}")


@data_app.command(context_settings=OPEN)
def convert(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(help="A data set, such as rMD17's .npz; several files by a pattern in quotes."),
    ],
    target: Annotated[Path, typer.Argument(help="Extended XYZ file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    strict: Strict = False,
) -> None:
    """Write a data set as extended XYZ, which ASE and every protocol's `structure: FILE@NUMBER` read.

    Options of the dataset reader may follow: `--format neuralil-json --frames 0:100`, or `--energy-key E
    --energy-unit Hartree`.
    """
    show_messages(quiet=False)
    from asecalc_ml.potentials.datasets.extxyz import convert as write

    n_frames = write(reader(source, context.args), target, overwrite, strict, quiet=False)
    typer.echo(f"Wrote {target}: {n_frames} structures")


@data_app.command()
def label(
    file: Annotated[Path, typer.Argument(help="Structures, such as a run's flagged.extxyz.")],
    reference: Annotated[
        str,
        typer.Option(
            help="What labels them: gfn2-xtb, a registered model, or module:Class; with arguments "
            '"{gfn2-xtb: {accuracy: 0.1}}".'
        ),
    ] = "gfn2-xtb",
    targets: Annotated[
        str | None,
        typer.Option(
            help="Further labels that the reference gives, with commas: dipole, and of gfn2-xtb homo, lumo, "
            "gap, polarizability."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Default: FILE with -labelled in its name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    quiet: Quiet = False,
    strict: Strict = False,
) -> None:
    """Compute energies, forces and further labels of structures, and write them for a training."""
    set_threads(1)
    show_messages(quiet)
    from asecalc_ml.potentials.datasets.generation.label import label_file

    target = output or file.with_name(f"{file.stem}-labelled.extxyz")
    further = [name.strip() for name in (targets or "").split(",") if name.strip()]
    spec = config.parse_value(reference)
    n_labelled = label_file(file, spec, target, overwrite, quiet, strict, further)
    typer.echo(f"Wrote {target}: {n_labelled} structures")


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name of a data set, such as rmd17-ethanol.")],
    directory: Annotated[Path, typer.Argument(help="Where to put it.")] = Path("data"),
    quiet: Quiet = False,
) -> None:
    """Download a published data set and check its hash."""
    from asecalc_ml.potentials.datasets.fetch import fetch as download

    for path in download(name, directory, quiet=quiet):
        typer.echo(f"Wrote {path}")


def check_generation(data: Mapping, source: str) -> GenerateOptions:
    """Options of `data generate`."""
    kinds.check_kind(data, (kinds.GENERATION,), source)
    return config.parse_file(data, templates.of_file(FILES["generate"]), source)


if __name__ == "__main__":
    main()
