"""`asecalc-ml models`: what the registry holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config, plugins
from asecalc_ml.cli.app import App
from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ConfigError, ModelError
from asecalc_ml.terminal.console import make_console, make_table
from asecalc_ml.units import number_with_unit

if TYPE_CHECKING:
    from asecalc_ml.store.card import Metrics, ModelCard
    from asecalc_ml.store.registry import Entry, Registry

app = App(no_args_is_help=True, help="List, inspect and share registered models.")

Name = Annotated[str, typer.Argument(help="Name of a registered model, name@hash, or a model file.")]
COLUMNS = ("name", "hash", "predicts", "elements", "data", "MAE on test data", "where")


@app.command("list")
def list_models(
    wanted: Annotated[
        str | None,
        typer.Option("--property", help="Only models that predict this: energy, homo, polarizability, ..."),
    ] = None,
) -> None:
    """List the models that `MLCalculator(name)` and `calculator: name` find."""
    summaries = [(entry, _summary(entry)) for entry in _registry().list()]
    if wanted is not None:
        _check_predicted(wanted, {name for _, summary in summaries for name in summary[0].split(", ")})
        summaries = [pair for pair in summaries if wanted in pair[1][0].split(", ")]
    rows = [(entry.name, entry.hash[:12], *summary, str(entry.path.parent)) for entry, summary in summaries]
    make_console().print(make_table(COLUMNS, rows))


def _check_predicted(wanted: str, known: set[str]) -> None:
    if wanted not in known:
        names = sorted(filter(None, known))
        remedy = f"They predict {', '.join(names)}"
        raise unknown_name_error(ConfigError, f"no model predicts {wanted!r}", wanted, names, remedy)


@app.command()
def show(name: Name) -> None:
    """Print a model's card, without the histograms of its domain."""
    entry = _registry().find(name)
    card = entry.card.model_dump(mode="json")
    if card.get("domain"):
        card["domain"] = {kind: _names(histograms) for kind, histograms in card["domain"].items()}
    typer.echo(config.dump_yaml({"file": str(entry.path), "hash": entry.hash, **card}), nl=False)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="Model file, as `models export` writes it.")],
    name: Annotated[str | None, typer.Option(help="Another name than its card's.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a model of the same name.")] = False,
) -> None:
    """Register a model file."""
    from asecalc_ml.store.golden import check_golden
    from asecalc_ml.store.stored_model import StoredModel

    registry = _registry()
    if name is not None:
        registry.check_free(name, replace)
    check_golden(StoredModel.find(file.absolute()))
    entry = registry.add(file, name, replace=replace)
    typer.echo(f"Registered {entry.name} ({entry.hash[:12]}) in {entry.path.parent}")


@app.command()
def export(
    name: Name, target: Annotated[Path, typer.Argument(help="File or folder to copy it to.")] = Path()
) -> None:
    """Copy a model to a file that others can add."""
    typer.echo(f"Wrote {_registry().export(name, target)}")


@app.command()
def remove(name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete a model of one's own from the registry."""
    path = _registry().find(name).path
    if yes or typer.confirm(f"Delete {path}?"):
        typer.echo(f"Removed {_registry().remove(name)}")


@app.command()
def note(
    name: Name, text: Annotated[str, typer.Argument(help="What users should know, in a sentence or two.")]
) -> None:
    """Add a note to the card of a model of one's own, such as how far dynamics was tried."""
    entry = _registry().note(name, text)
    n_notes = len(entry.card.notes)
    typer.echo(f"{entry.name} ({entry.hash[:12]}) has {n_notes} note{'s' * (n_notes != 1)}")


@app.command()
def cite(name: Name) -> None:
    """Say what to cite when a model was used: its method, its data, and this package."""
    for line in _citations(_registry().find(name).card):
        typer.echo(line)


def _registry() -> Registry:
    from asecalc_ml.store.registry import Registry

    return Registry()


def _summary(entry: Entry) -> tuple[str, str, str, str]:
    """Quantities, elements, data and error; a damaged file does not keep the others from being listed."""
    try:
        card = entry.card
    except ModelError:
        return "", "", "damaged: `models show` says why", ""
    data = card.dataset.name if card.dataset else ""
    return card.predicted, " ".join(card.elements), data, _error(card.metrics)


def _error(metrics: Metrics | None) -> str:
    """Mean absolute errors of forces, or of other quantities in their order."""
    if metrics is None:
        return ""
    if metrics.quantities:
        return ", ".join(number_with_unit(f"{one.mae:.3g}", one.unit) for one in metrics.quantities.values())
    forces = metrics.forces_mae_meV_A
    return "" if forces is None else f"forces {forces:.1f} meV/Å"


def _names(histograms: object) -> object:
    return list(histograms) if isinstance(histograms, dict) else histograms


def _citations(card: ModelCard) -> list[str]:
    from asecalc_ml.calculators.corrections import CORRECTIONS

    method = getattr(plugins.get("architectures", card.architecture), "citation", None)
    data = card.dataset
    lines = [f"Model: {card.name}, {card.architecture}" + (f": {method}" if method else "")]
    if data is not None:
        theory = f" ({data.level_of_theory})" if data.level_of_theory else ""
        lines.append(f"Data: {data.name}{theory}: {data.citation or 'no citation given'}")
        lines.append(f"Licence of the data: {data.licence or 'not given'}")
    terms = [name for term in card.corrections for name in term]
    lines += [f"Added to it: {name}: {CORRECTIONS[name].citation}" for name in terms]
    return [*lines, "Software: asecalc-ml, CITATION.cff"]
