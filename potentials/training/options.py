"""What a training is told: one option model for YAML, Python, schema and docs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import ErrorScale, LearningRate
from asecalc_ml.errors import AsecalcError, refuse_both
from asecalc_ml.plugins import names
from asecalc_ml.targets import TargetOptions, TargetSpec, parse_targets
from asecalc_ml.targets.target import ENERGY
from asecalc_ml.tracking.spec import TrackingSpec, with_current_name

if TYPE_CHECKING:
    from asecalc_ml.store.card import SearchCard


class SplitOptions(Options):
    """How many frames train, validate and test; the choice is drawn from the seed and stored, or given."""

    n_train: int = Field(950, ge=1, description="frames to train on")
    n_validation: int = Field(50, ge=1, description="frames to choose the best epoch by")
    n_test: int = Field(0, ge=0, description="frames held out of `data`; 0 where `test_data` is given")
    stratify_by: str | None = Field(
        None, description="key of the frames' info whose values get their share of every part, such as group"
    )
    group_by: str | None = Field(
        None, description="key of the frames' info: frames of one value stay in one part"
    )
    group_distance_A: float | None = Field(
        None,
        gt=0,
        le=10,
        description="frames of the same atoms with a smaller root mean square displacement stay in one part",
    )
    file: Path | None = Field(
        None,
        description="split.json of another training, or frame numbers like it, in place of all of the above",
    )


#: Optimizers that the package pytorch-optimizer has.
FROM_PYTORCH_OPTIMIZER = ("lamb", "yogi")

#: Labels of a training on energies; each has a weight in the loss.
OF_ENERGY = ("energy", "forces", "stress", "dipole")


class LossOptions(Options):
    """Weighted sum of mean penalties of the errors of energy, forces and stress.

    ``function: squared`` gives w_E ⟨(ΔE)²/N⟩ + w_F ⟨ΔF²⟩ + w_S ⟨(VΔσ/N)²⟩, in eV², (eV/Å)² and eV²;
    ``log-cosh`` gives ⟨s log cosh(Δ/s)⟩ of ΔE/N, ΔF and VΔσ/N, which forgives outliers: it is quadratic far
    below the characteristic scale s, and linear far above. ⟨⟩ is the mean over the labels in a batch: a label
    that a frame lacks has weight 0 in that frame. A label whose weight is zero is not needed.
    """

    function: str = Field(
        "squared",
        description="penalty of an error: squared, log-cosh, or one that a package registers",
        examples=["squared", "log-cosh"],
    )
    energy_weight: float = Field(
        0.1,
        ge=0,
        description="weight of the energy errors; 0: no energies but a constant, fitted at the end",
    )
    forces_weight: float = Field(
        1.0, ge=0, description="weight of the force errors; 0: energies only, and the data need no forces"
    )
    stress_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the errors of the virial per atom, eV: a stress component times volume "
        "over number of atoms",
    )
    dipole_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the dipole errors, e Å; above 0 the architecture needs partial charges",
    )
    target_weights: dict[str, float] = Field(
        {},
        description="weights of targets other than the energy, by name, of errors in units of the spread of "
        "their training labels; a target that is not named has weight 1",
    )
    penalty_weight: float = Field(
        0.01,
        ge=0,
        description="weight of what the architecture itself adds to the loss: PhysNet's non-hierarchicality",
    )
    energy_scale_eV_atom: ErrorScale = Field(
        0.02, description="characteristic scale of log-cosh for energies and virials per atom"
    )
    forces_scale_eV_A: ErrorScale = Field(
        0.1, description="characteristic scale of log-cosh for force components"
    )
    dipole_scale_e_A: ErrorScale = Field(
        0.05, description="characteristic scale of log-cosh for dipole components"
    )
    target_scale: ErrorScale = Field(
        0.05,
        description="characteristic scale of log-cosh for targets other than the energy, in units of the "
        "spread of their training labels",
    )

    @field_validator("function")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in names("losses"):
            raise ValueError(f"should be one of {', '.join(names('losses'))}")
        return name

    @field_validator("target_weights")
    @classmethod
    def _above_zero(cls, weights: dict[str, float]) -> dict[str, float]:
        for name, weight in weights.items():
            if not weight > 0:
                raise ValueError(f"the weight of {name} is {weight}, but should be above 0")
        return weights

    @model_validator(mode="after")
    def _something_to_fit(self) -> LossOptions:
        if set(self.fitted) <= {"dipole"} and not self.target_weights:
            raise ValueError(
                "every weight is 0 that fits an energy: give one of energy_weight, forces_weight, "
                "stress_weight"
            )
        return self

    @property
    def fitted(self) -> list[str]:
        """Labels that have a weight: energy, forces, stress and dipole, or targets."""
        weights = [label for label in OF_ENERGY if getattr(self, f"{label}_weight") > 0]
        return [*weights, *self.target_weights]

    def of_targets(self, names: Sequence[str]) -> LossOptions:
        """Return the loss of a training on other targets than the energy: their weights, and no others.

        Raises
        ------
        ValueError
            If a weight is given that has no target here.
        """
        if unknown := sorted(set(self.target_weights) - set(names)):
            raise ValueError(f"loss.target_weights names {', '.join(unknown)}, and target is {list(names)}")
        of_energy = [f"{label}_weight" for label in OF_ENERGY]
        if given := [key for key in of_energy if key in self.model_fields_set and getattr(self, key) > 0]:
            raise ValueError(
                f"loss.{given[0]} is the weight of a label of energies, and target is {', '.join(names)}: "
                "give loss.target_weights, or leave it out"
            )
        weights = {name: self.target_weights.get(name, 1.0) for name in names}
        return self.model_copy(update={**dict.fromkeys(of_energy, 0.0), "target_weights": weights})

    @property
    def needs_derivative(self) -> bool:
        """Whether a step has to differentiate the energy."""
        return self.forces_weight > 0 or self.stress_weight > 0


class OptimizerOptions(Options):
    """Cosine: linear warm-up, then decay to zero over `max_epochs`; one-cycle: up, down and out."""

    algorithm: Literal["adamw", "adam", "sgd", "lamb", "yogi"] = Field(
        "adamw", description="how gradients change weights; lamb and yogi need the extra [optimizers]"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd: part of the last change that is kept")
    learning_rate: LearningRate = Field(1e-3, description="peak learning rate")
    schedule: Literal["cosine", "one-cycle"] = Field("cosine", description="how the learning rate goes")
    warmup_steps: int = Field(
        500, ge=0, description="cosine: steps over which the learning rate rises linearly"
    )
    minimum_learning_rate: LearningRate | None = Field(
        None, description="one-cycle: rate at the beginning, and after nine tenths of a cycle"
    )
    final_learning_rate: LearningRate | None = Field(
        None, description="one-cycle: rate at the end of a cycle, below the minimum"
    )
    cycle_epochs: int | None = Field(
        None, ge=1, description="one-cycle: epochs in a cycle; empty: one cycle over the whole training"
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=10,
        description="decay of the weights, times the learning rate; of adam and sgd an L2 penalty in the "
        "gradient",
    )
    gradient_clip: float = Field(10.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(
        0.999,
        gt=0,
        lt=1,
        description="decay of the exponential moving average of weights; "
        "at step t it is at most (1 + t)/(10 + t)",
    )

    @property
    def spans_training(self) -> bool:
        """True if the learning rate at every step depends on `max_epochs`."""
        return self.schedule != "one-cycle" or self.cycle_epochs is None

    @field_validator("algorithm")
    @classmethod
    def _is_installed(cls, algorithm: str) -> str:
        if algorithm in FROM_PYTORCH_OPTIMIZER and find_spec("pytorch_optimizer") is None:
            raise ValueError(
                f"{algorithm} needs the package pytorch-optimizer: pip install 'asecalc-ml[optimizers]', or "
                "take adamw"
            )
        return algorithm

    @model_validator(mode="after")
    def _rates_in_order(self) -> OptimizerOptions:
        low, final = self.minimum_learning_rate, self.final_learning_rate
        if self.schedule == "one-cycle" and not (low and final and final < low < self.learning_rate):
            raise ValueError(
                f"one-cycle needs final_learning_rate ({final}) < minimum_learning_rate ({low}) < "
                f"learning_rate ({self.learning_rate}), as 5e-6, 5e-4 and 3e-3"
            )
        return self


class TrainOptions(Options):
    """A training: data, architecture, loss, optimizer, and the name the model is registered under."""

    name: str = Field(
        description="the model's name in the registry",
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        examples=["my-model"],
    )
    data: dict[str, Any] = Field(
        description="dataset reader (`format`) and its options",
        examples=[{"format": "ase", "path": "frames.xyz"}],
    )
    test_data: dict[str, Any] | None = Field(
        None, description="a second dataset to test on; none: `split.n_test`"
    )
    target: TargetSpec | list[TargetSpec] = Field(
        "energy",
        description="what the model predicts: energy (with forces), or other targets such as homo, zpve or "
        "polarizability; a list of several for one model, as in [homo, {gap: {pooling: softmax}}]",
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
    batch_size: int = Field(8, ge=1, description="frames per batch, of all devices together")
    accumulated_batches: int = Field(
        1,
        ge=1,
        description="batches for a step, computed one after the other: the step is that of one batch of all "
        "their frames, with the memory of one",
    )
    max_epochs: int = Field(500, ge=1, description="passes through the training frames")
    patience_epochs: int | None = Field(
        None, ge=1, description="stop after so many epochs without improvement"
    )
    precision: Literal["float32", "float64"] = Field("float32", description="the potential's numbers")
    mixed_precision: bool = Field(
        False,
        description="multiply matrices of the training step in bfloat16; weights, sums and validation stay "
        "in float32",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a CUDA device where there is one"
    )
    devices: int = Field(
        1, ge=1, description="processes on a machine, one for each GPU; on a CPU each has `threads` threads"
    )
    num_nodes: int = Field(
        1, ge=1, description="machines; of several, srun or torchrun starts a process for each device"
    )
    strategy: Literal["ddp"] = Field(
        "ddp", description="how several processes train: ddp, each computes a part of every batch"
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
    tracking: TrackingSpec | None = Field(
        None,
        description="trackers to log the metrics of each epoch to as well, each with its options, as in "
        "{wandb: {mode: offline}} or {tensorboard: {}}",
    )
    _former_names = model_validator(mode="before")(with_current_name)

    @property
    def targets(self) -> list[TargetOptions]:
        """What the model predicts, in order."""
        return parse_targets(self.target)

    @property
    def fits_energy(self) -> bool:
        """True if the target is the energy."""
        return self.target in (ENERGY, [ENERGY]) or self.targets[0].name == ENERGY

    @property
    def target_names(self) -> list[str]:
        """Labels of targets other than the energy that are fitted; none of a training on energies."""
        return [] if self.fits_energy else [target.name for target in self.targets]

    @model_validator(mode="after")
    def _of_the_target(self) -> TrainOptions:
        """Give the loss of other targets than the energy their weights, and refuse options of energies."""
        try:
            names = [target.name for target in self.targets]
        except AsecalcError as error:
            raise ValueError(str(error)) from error
        if self.fits_energy:
            if self.loss.target_weights:
                raise ValueError("loss.target_weights are weights of other targets than the energy")
            return self
        for key in ("reference_energies_eV", "corrections"):
            if getattr(self, key):
                raise ValueError(f"{key} is for energies, and target is {', '.join(names)}: leave it out")
        object.__setattr__(self, "loss", self.loss.of_targets(names))  # options are frozen afterwards
        return self

    @model_validator(mode="after")
    def _mixes_what_can_be_mixed(self) -> TrainOptions:
        if self.mixed_precision and self.precision != "float32":
            raise ValueError(f"mixed_precision is for precision float32, and it is {self.precision}")
        if self.mixed_precision and self.compile:
            raise ValueError(
                "mixed_precision and compile exclude each other: a compiled step is compared with the eager "
                "one, and rounding errors of bfloat16 would hide others; choose one of the two"
            )
        return self

    @property
    def frames_per_step(self) -> int:
        """Frames of accumulated batches together."""
        return self.batch_size * self.accumulated_batches

    @property
    def training_directory(self) -> Path:
        return self.directory or Path("training") / self.name


@dataclass(frozen=True)
class TrainingRequest:
    """A training that is asked for, and what it may do with what exists already.

    The flags are those of :func:`asecalc_ml.potentials.training.train`.

    Attributes
    ----------
    is_trial : bool
        True if the model is not registered, so that its name need not be free.
    ends_early : callable or None
        Asked before each epoch, with the number of finished ones; the training ends where it returns True.
    search : SearchCard or None
        The search that chose the options, for the model's card.
    """

    options: TrainOptions
    resume: bool = False
    replace: bool = False
    quiet: bool = False
    strict: bool = False
    allow_different: bool = False
    is_trial: bool = False
    ends_early: Callable[[int], bool] | None = None
    resume_or_start: bool = False
    search: SearchCard | None = None

    def __post_init__(self) -> None:
        for name in ("resume", "replace"):
            refuse_both(resume_or_start=self.resume_or_start, **{name: getattr(self, name)})
