"""Data to train on: readers, one a file, and what makes or fetches it."""

from asecalc_ml.potentials.datasets.options import DatasetOptions, dataset, dataset_hash
from asecalc_ml.potentials.datasets.readers.ani1 import ANI1
from asecalc_ml.potentials.datasets.readers.ase_file import AseFile
from asecalc_ml.potentials.datasets.readers.cif_csv import CifCsv
from asecalc_ml.potentials.datasets.readers.mlearn import Mlearn
from asecalc_ml.potentials.datasets.readers.neuralil_json import NeuralILJson
from asecalc_ml.potentials.datasets.readers.qm9 import QM9
from asecalc_ml.potentials.datasets.readers.rmd17 import RMD17

__all__ = [
    "ANI1",
    "QM9",
    "RMD17",
    "AseFile",
    "CifCsv",
    "DatasetOptions",
    "Mlearn",
    "NeuralILJson",
    "dataset",
    "dataset_hash",
]
