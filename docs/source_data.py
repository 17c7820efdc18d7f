"""What the data of the ionic liquid and of ANI-1 say before any training: the figures of training.md.

python docs/source_data.py examples/train_jat_ean.yaml [DATA]
"""

import sys
from collections import defaultdict

import numpy as np

from asecalc_ml.config.options import load_options
from asecalc_ml.potentials.training import TrainOptions
from asecalc_ml.potentials.training.baselines import mean_errors, table, zero_errors
from asecalc_ml.potentials.training.frames.training_data import read_data

options = load_options(sys.argv[1], TrainOptions)
if len(sys.argv) > 2:
    options = options.model_copy(update={"data": {**options.data, "path": sys.argv[2]}})
data = read_data(options, None)
groups = defaultdict(list, {"all": data.test})
for atoms in data.test:
    groups[atoms.info["group"]].append(atoms)
errors = {
    name: {"zero forces": zero_errors(frames), "training mean": mean_errors(data.train, frames)}
    for name, frames in groups.items()
}
print("\n".join(table(errors, {name: len(frames) for name, frames in groups.items()})))

frames = [*data.train, *data.validation, *data.test]
if "forces" in frames[0].calc.results:
    mean = 1000 * np.array([atoms.get_forces().mean(axis=0) for atoms in frames])
    print(f"mean force of a frame: {np.abs(mean).mean():.1f}, rms {np.sqrt((mean**2).mean()):.1f} meV/Å")
