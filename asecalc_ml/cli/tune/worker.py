"""One trial of a hyperparameter search in a process of its own."""

from __future__ import annotations

from asecalc_ml.cli.process import carry_out_job


def work(message: dict) -> tuple[str, str, dict]:
    """Train the trial or continue it, and measure its objectives."""
    from asecalc_ml.potentials.tuning.trial import carry_out

    return carry_out(message)


if __name__ == "__main__":
    carry_out_job(work, threads=lambda message: message["options"].get("threads", 1))
