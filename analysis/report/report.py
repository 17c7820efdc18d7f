"""One self-contained HTML page about a run, made only from what lies in its directory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from asecalc_ml import plugins
from asecalc_ml.analysis.base import Record, Result, Table, Verdict
from asecalc_ml.analysis.checks.connectivity import BOUND
from asecalc_ml.analysis.checks.energy_exchange import exchange_verdict
from asecalc_ml.analysis.distributions.training_domain import temperature_text
from asecalc_ml.analysis.failures import Failures
from asecalc_ml.analysis.pipeline import lost_frames_text, not_installed, results_alone
from asecalc_ml.analysis.relevance.output.page import is_beside_viewer, read_relevance
from asecalc_ml.analysis.relevance.output.results import RelevanceResult
from asecalc_ml.analysis.relevance.output.scene import relevance_scene
from asecalc_ml.analysis.report.page import drawings, render_page
from asecalc_ml.analysis.report.run_scene import run_scene
from asecalc_ml.errors import PluginError
from asecalc_ml.files.writing import write_whole
from asecalc_ml.runs import REPORT, EventKind, open_run
from asecalc_ml.structure.charge_and_spin import charge_and_spin

if TYPE_CHECKING:
    from asecalc_ml.runs import Production, RunReader

ENDINGS = (EventKind.STOPPED, EventKind.INTERRUPTED, EventKind.RESUMED, EventKind.FINISHED)
SHOWN_EVENTS = 5
MOST_TURNS = 5  # temperatures of a target that are named

#: Errors of a model card: label, what one error is of, ending of the card's name of it, unit.
ERRORS = (
    ("energy", "an energy", "meV", "meV"),
    ("forces", "a force component", "meV_A", "meV/Å"),
    ("stress", "a stress component", "GPa", "GPa"),
    ("dipole", "a dipole component", "mD", "mD"),
)


class Completion(NamedTuple):
    """How far a run came."""

    state: Literal["finished", "stopped", "unfinished"]
    text: str


class Row(NamedTuple):
    """A fact with its name, and what the name means where that is known."""

    name: str
    value: Any
    meaning: str = ""


Shown = TypeVar("Shown", bound=Result)


def write_report(run: str | Path | RunReader) -> Path:
    """Write ``report.html`` from the results in a run directory.

    The page has everything inside and asks for nothing from a network.

    Parameters
    ----------
    run : str, Path or RunReader
        A run directory, analysed or not, finished or not, or its reader.

    Returns
    -------
    Path of the page.

    Warns
    -----
    UserWarning
        If a result cannot be read or shown. The page names it, and has all others.
    """
    reader: RunReader = open_run(run)
    failures = Failures(reader.directory)
    n_before = len(failures.all)
    results = results_alone(reader, failures)
    with failures.alone("relevance"):
        results += read_relevance(reader.directory)
    page = reader.directory / REPORT
    write_whole(page, render(reader, results, failures))
    for failure in failures.all[n_before:]:
        warnings.warn(f"{page}: analysis {failure.analysis}: {failure.text}", stacklevel=2)
    return page


def render(run: RunReader, results: list[Result], failures: Failures) -> str:
    """The page as text; what a result cannot show is noted as a failure and left out."""
    relevance = [one for one in results if isinstance(one, RelevanceResult)]
    scenes = shown(relevance, lambda one: [relevance_scene(one)], failures)
    contents = {
        "drawings": shown(results, lambda one: drawings([one], is_beside_viewer), failures),
        "tables": shown(results, lambda one: checked(one.tables(), Table), failures),
    }
    verdicts = all_verdicts(run, results, failures)
    return render_page(
        "report.html",
        title=run_title(run),
        kind="Molecular dynamics report" if _has_time(run) else "Calculation report",
        scenes=[*scenes, run_scene(run)],
        has_time=_has_time(run),
        completion=completion(run),
        facts=list(key_facts(run)),
        verdicts=verdicts,
        **contents,
        options=list(option_rows(run.read_options())),
        model=list(model_rows(run)),
        provenance=list(flat_rows(_without_production(run.read_provenance()))),
        events=[event_row(event) for event in run.read_events()],
    )


# ---------------------------------------------------------------------------------------------- the top


def run_title(run: RunReader) -> str:
    """Structure, protocol and calculator in one line."""
    options = run.read_options()
    protocol = str(options.get("protocol", "run")).upper()
    return f"{structure_name(run)}, {protocol}, {calculator_name(options.get('calculator'))}"


def structure_name(run: RunReader) -> str:
    """The structure as the options name it, its formula where they hold none."""
    given = run.read_options().get("structure")
    return str(given) if given else run.atoms.get_chemical_formula()


def calculator_name(spec: Any) -> str:
    """A calculator as its options name it: a model, or ``module:Class`` with its arguments."""
    if isinstance(spec, Mapping):
        return ", ".join(f"{name}({_arguments(arguments)})" for name, arguments in spec.items())
    return str(spec) if spec else "calculator given in Python"


def _arguments(arguments: Mapping | None) -> str:
    return ", ".join(f"{key}={_argument(value)}" for key, value in (arguments or {}).items())


def _argument(value: Any) -> str:
    """An argument, with names and terms of a list as calculators are named."""
    return f"[{', '.join(map(calculator_name, value))}]" if isinstance(value, list) else str(value)


def completion(run: RunReader) -> Completion:
    """Whether the run is complete, and if not where and why it ended."""
    steps, done = run.planned_steps, _last_step(run)
    of_all = f"{done:,} of {steps:,} steps" if steps else f"{done:,} steps"
    last: Mapping[str, Any] = next(
        (event for event in reversed(run.read_events()) if event.get("kind") in ENDINGS), {}
    )
    kind, message = last.get("kind"), last.get("message", "no reason was recorded")
    if kind == EventKind.FINISHED:
        what = f"{steps or done:,} steps" if done else message  # the last row may stand before the last step
        return Completion("finished", f"The run is complete: {what}.")
    after, so_far = (f", after {of_all}", f", {of_all}") if _has_time(run) else ("", "")
    if kind == EventKind.STOPPED:
        return Completion("stopped", f"The run stopped early{after}: {message}")
    how = "It was interrupted" if kind == EventKind.INTERRUPTED else "It is still going, or was cut off"
    text = f"The run is unfinished{so_far}. {how}; what follows is about what has been written."
    return Completion("unfinished", text)


def _has_time(run: RunReader) -> bool:
    """Whether the run makes time steps."""
    return run.read_provenance().get("frame_interval_fs") is not None


def bound_verdict(run: RunReader, results: list[Result]) -> list[Verdict]:
    """Whether the molecule stayed bound by the run's events, where no analysis has looked at the frames."""
    steps = run.read_thermo().get("step", ())
    if any(result.analysis == "connectivity" for result in results) or not len(steps):
        return []
    changes = [event for event in run.read_events() if event.get("kind") == EventKind.BONDS]
    listed = "; ".join(str(event.get("message")) for event in changes[:SHOWN_EVENTS])
    text = listed or "the run recorded no bond that broke or formed"
    return [Verdict(check=BOUND, status="failed" if changes else "passed", text=text)]


def readable_verdict(run: RunReader) -> list[Verdict]:
    """That frames are missing, where they are."""
    if not (lost := run.n_lost_frames):
        return []
    text = lost_frames_text(run.n_frames, lost)
    return [Verdict(check="the trajectory is whole", status="failed", text=text)]


def _last_step(run: RunReader) -> int:
    steps = run.read_thermo().get("step")
    return 0 if steps is None or len(steps) == 0 else int(steps[-1])


def key_facts(run: RunReader) -> Iterator[Row]:
    """What one wants to know first."""
    yield Row("atoms", f"{len(run.atoms)} ({run.atoms.get_chemical_formula(mode='hill')})")
    charge, spin = charge_and_spin(run.atoms)
    if charge:
        yield Row("charge", f"{charge:+d} e")
    if spin:
        yield Row("unpaired electrons", f"{spin}")
    if _has_time(run):
        yield from _time_facts(run)
    if n_flagged := run.count_flagged():
        yield Row("flagged frames", f"{n_flagged:,}, in flagged.extxyz, for `asecalc-ml data label`")
    if run.pbc.any():
        yield Row("cell", " × ".join(f"{length:.2f}" for length in run.atoms.cell.lengths()) + " Å")


def _time_facts(run: RunReader) -> Iterator[Row]:
    thermo = run.read_thermo()
    times, steps = thermo["time_fs"], thermo["step"]
    yield Row("production", f"{times[-1] / 1000 if len(times) else 0:.4g} ps")
    if len(steps) and steps[-1]:
        yield Row("time step", f"{times[-1] / steps[-1]:g} fs")
    if course := target_course(run.production):
        yield Row("target temperature", course)


def target_course(production: Production) -> str:
    """The temperatures that a run was asked for, such as "300 to 900 K"; empty where there were none."""
    kelvin = [value for segment in production.segments for _, value in segment.temperature_K]
    turns = [f"{value:g}" for k, value in enumerate(kelvin) if k == 0 or value != kelvin[k - 1]]
    if len(turns) > MOST_TURNS:
        turns = [turns[0], "…", turns[-1]]
    return " to ".join(turns) + " K" if turns else ""


# ------------------------------------------------------------------------------------- figures and tables


def shown(results: Iterable[Shown], show: Callable[[Shown], Iterable[Any]], failures: Failures) -> list[Any]:
    """What each result shows; one that raises an error is noted, and the others are shown."""
    content: list[Any] = []
    for result in results:
        with failures.alone(result.analysis):
            content += list(show(result))
    return content


def checked(records: Iterable[Any], kind: type[Record]) -> list[Record]:
    """Records that a page can show; TypeError where an analysis gives something else."""
    listed = list(records)
    for entry in listed:
        if not isinstance(entry, kind):
            raise TypeError(f"a {type(entry).__name__} where a {kind.__name__} should be: {entry!r}")
    return listed


def all_verdicts(run: RunReader, results: list[Result], failures: Failures) -> list[Verdict]:
    """Those of the run, then those of its results, then what analyses failed or are not installed."""
    verdicts = shown(results, lambda one: checked(one.verdicts(), Verdict), failures)
    return [
        *readable_verdict(run),
        *bound_verdict(run, results),
        *verdicts,
        *exchange_verdict(results),
        *(one.verdict for one in failures.all),
        *map(_not_shown, not_installed(run)),
    ]


def _not_shown(name: str) -> Verdict:
    text = (
        f"results/{name}.json is of an analysis that is not installed: install its package, and `asecalc-md "
        "report` shows it"
    )
    return Verdict(check=f"the result of {name} is shown", status="undecided", text=text)


# ------------------------------------------------------------------------------------------ what was run


def option_rows(options: Mapping) -> Iterator[Row]:
    """The protocol's options with their meaning, as far as the protocol is installed."""
    meanings = _meanings(options.get("protocol"))
    for name, value in options.items():
        yield Row(name, value, meanings.get(name, ""))


def _meanings(protocol: str | None) -> dict[str, str]:
    try:
        fields = plugins.get("protocols", str(protocol)).model_fields
    except PluginError:
        return {}
    return {name: field.description or "" for name, field in fields.items()}


def model_rows(run: RunReader) -> Iterator[Row]:
    """The model card in brief, or those of a committee's members; nothing where the calculator has none."""
    cards = run.read_model_cards()
    for card in cards:
        yield Row("name" if len(cards) == 1 else "member", card.get("name"))
        yield from _card_rows(card)


def _card_rows(card: Mapping) -> Iterator[Row]:
    yield Row("architecture", f"{card.get('architecture')}, {card.get('n_parameters', 0):,} parameters")
    yield Row("cutoff", f"{card.get('cutoff_A')} Å")
    yield Row("elements", ", ".join(card.get("elements", ())))
    yield Row("precision", card.get("dtype"))
    if card.get("corrections"):
        yield Row("added terms", ", ".join(calculator_name(correction) for correction in card["corrections"]))
    yield from _error_rows(card)
    yield from _dataset_rows(card.get("dataset"))
    ancestors = card.get("ancestors") or ()
    if ancestors:
        yield Row("weights from", ", ".join(map(_ancestor_text, ancestors)))
    for note in card.get("notes", ()):
        yield Row("note", note)


def _ancestor_text(ancestor: Mapping) -> str:
    level = ancestor.get("level_of_theory")
    unknown = "" if ancestor.get("knows_frames") else "training frames unknown"
    known = ", ".join(filter(None, [level, unknown]))
    return f"{ancestor.get('name')} ({known})" if known else str(ancestor.get("name"))


def _error_rows(card: Mapping) -> Iterator[Row]:
    metrics = card.get("metrics")
    if metrics is None:
        yield Row("measured errors", "none in the card")
        return
    labelled = metrics.get("labelled") or {}
    for label, name, suffix, unit in ERRORS:
        mean, root = (metrics.get(f"{label}_{kind}_{suffix}") for kind in ("mae", "rmse"))
        if mean is None:
            continue
        n_frames = labelled.get(label, metrics["n_frames"])
        yield Row(
            f"error of {name}",
            f"{mean:.3g} {unit} mean absolute, {root:.3g} {unit} root mean square, on {n_frames:,} frames "
            f"{_never_seen(card)}",
        )


def _never_seen(card: Mapping) -> str:
    """Clause on test frames, as far as it is known what the weights rest on."""
    metrics = card["metrics"]
    if n_copies := metrics.get("n_copies"):
        n_frames = f"{metrics['n_frames']:,}"
        return f"({n_copies:,} of all {n_frames} test frames trained the model or chose its epoch)"
    unknown = [
        str(ancestor.get("name"))
        for ancestor in card.get("ancestors") or ()
        if not ancestor.get("knows_frames")
    ]
    if unknown:
        return f"that its own training never saw; whether that of {', '.join(unknown)} did is unknown"
    if (card.get("dataset") or {}).get("n_train") is None:
        return "of which it is unknown whether training saw them"
    return "that training never saw"


def _dataset_rows(dataset: Mapping | None) -> Iterator[Row]:
    if dataset is None:
        return
    frames = ""
    if dataset.get("n_train") is not None:  # of a model from elsewhere nobody may know
        frames = f": {dataset['n_train']:,} frames, {dataset['n_validation']:,} more to choose the best epoch"
    yield Row("training data", f"{dataset['name']}{frames}")
    yield Row("sampled at", temperature_text(dataset.get("temperature_K")))
    for key, name in (("level_of_theory", "level of theory"), ("citation", "cite"), ("licence", "licence")):
        if dataset.get(key):
            yield Row(name, dataset[key])


def _without_production(provenance: Mapping) -> dict:
    """What a run rests on, without the lists of numbers that it states for analyses."""
    return {key: value for key, value in provenance.items() if key != "production"}


def flat_rows(data: Mapping, prefix: str = "") -> Iterator[Row]:
    """Nested mappings as one list, names joined with dots."""
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flat_rows(value, f"{name}.")
        else:
            yield Row(name, value)


def event_row(event: Mapping) -> Row:
    """An event's kind, its message, and when."""
    return Row(str(event.get("kind", "event")), event.get("message"), str(event.get("time", "")))
