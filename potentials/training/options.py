"""What a training is told: one option model for YAML, Python, schema and docs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from asecalc_ml.config import Options


class SplitOptions(Options):
    """How many frames train, validate and test; the choice is drawn from the seed and stored."""

    n_train: int = Field(950, ge=1, description="frames to train on")
    n_validation: int = Field(50, ge=1, description="frames to choose the best epoch by")
    n_test: int = Field(0, ge=0, description="frames held out of `data`; 0 where `test_data` is given")


class LossOptions(Options):
    """Weighted squared errors: w_E ⟨(ΔE)²/N⟩ + w_F ⟨ΔF²⟩ + w_S ⟨(VΔσ/N)²⟩, in eV², (eV/Å)² and eV²."""

    energy_weight: float = Field(0.1, ge=0, description="weight of the squared energy error per atom number")
    forces_weight: float = Field(1.0, ge=0, description="weight of the squared force component error")
    stress_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the squared error of the virial per atom, eV: a stress component times volume "
        "over number of atoms; above 0 every frame needs a stress",
    )


class OptimizerOptions(Options):
    """AdamW with linear warm-up and cosine decay to zero over `max_epochs`."""

    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    warmup_steps: int = Field(500, ge=0, description="steps over which the learning rate rises linearly")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay")
    gradient_clip: float = Field(10.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(
        0.999, gt=0, lt=1, description="decay of the exponential moving average of weights"
    )


class WandbOptions(Options):
    """Weights & Biases; never needed, metrics go to a CSV file always."""

    project: str = Field("asecalc-ml", description="project")
    mode: Literal["offline", "online"] = Field(
        "offline", description="offline writes to the training directory"
    )


class TrainOptions(Options):
    """A training: data, architecture, loss, optimizer, and the name the model is registered under."""

    name: str = Field(description="the model's name in the registry", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    data: dict[str, Any] = Field(description="dataset reader (`format`) and its options")
    test_data: dict[str, Any] | None = Field(
        None, description="a second dataset to test on; none: `split.n_test`"
    )
    split: SplitOptions = Field(SplitOptions(), description="sizes of the parts")
    model: dict[str, Any] = Field(
        {"architecture": "equivariant-transformer"}, description="`architecture` and its hyperparameters"
    )
    init_from: str | None = Field(
        None, description="registered model whose weights to start from (fine-tuning)"
    )
    reference_energies_eV: dict[str, float] | None = Field(
        None, description="energies of isolated atoms by element symbol, eV, at the data's level of theory"
    )
    corrections: list[str | dict[str, dict[str, Any] | None]] = Field(
        [],
        description="analytic terms that the model is trained on top of, and that stay part of it, "
        "as in [zbl, {d3: {functional: PBE}}]",
    )
    loss: LossOptions = Field(LossOptions(), description="weights of the errors")
    optimizer: OptimizerOptions = Field(OptimizerOptions(), description="optimizer and schedule")
    batch_size: int = Field(8, ge=1, description="frames per step")
    max_epochs: int = Field(500, ge=1, description="passes through the training frames")
    patience_epochs: int | None = Field(
        None, ge=1, description="stop after so many epochs without improvement"
    )
    precision: Literal["float32", "float64"] = Field("float32", description="the potential's numbers")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a CUDA device where there is one"
    )
    threads: int = Field(1, ge=1, description="CPU threads of torch")
    compile: bool = Field(
        False,
        description="compile the training step; it costs a minute at the start, several where frames differ "
        "in size, and needs a C++ compiler",
    )
    seed: int = Field(0, ge=0, description="seed of split, weights and shuffling")
    directory: Path | None = Field(
        None, description="where checkpoints and metrics go; default training/NAME"
    )
    wandb: WandbOptions | None = Field(None, description="log to Weights & Biases as well")

    @property
    def training_directory(self) -> Path:
        return self.directory or Path("training") / self.name
