"""What a run has measured, as numbers: by this the samples and the tests compare runs."""

from pathlib import Path


def measured(directory: Path) -> dict[str, list]:
    """Tables of a run and of its parts, its Hessian, and the positions of its last frame."""
    from asecalc_ml.rundir import RunReader

    run, found = RunReader(directory), {}
    for table in ("relaxation", "equilibration", "thermo", "scan_table"):
        columns = getattr(run, table)
        found |= {f"{table} {key}": column.tolist() for key, column in columns.items() if len(column)}
    if run.hessian:
        found["hessian"] = run.hessian["hessian"].tolist()
    if run.provenance["frame_interval_fs"] is not None and not run.parts:
        found["last positions"] = list(run.frames())[-1].positions.tolist()
    for part in run.parts:
        name = part.relative_to(directory).as_posix()
        found |= {f"{name} {key}": value for key, value in measured(part).items()}
    return found
