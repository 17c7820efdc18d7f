"""Fixtures that several tests share."""

import os
import shutil
import sys
from pathlib import Path

import hypothesis
import pytest

# The same examples in every run; `pytest --hypothesis-profile=default` draws new ones.
# A machine that is busy fails no test.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")

sys.path.insert(0, str(Path(__file__).parent / "helpers"))  # modules that tests share

# Before torch and tblite are loaded: sums over several threads differ from call to call in the last bits.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_auto_num_workers(config) -> int | None:
    """A process for each core; one where prints are wanted, a GPU is tested, or slow tests take the time."""
    asked = config.option.markexpr.replace("not slow", "").replace("not gpu", "")
    alone = config.option.capture == "no" or "slow" in asked or "gpu" in asked
    return 0 if alone else None


def pytest_runtest_setup(item) -> None:
    """Tests marked "gpu" need a CUDA device."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch finds no CUDA device here")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch) -> Path:
    """Each test registers models, and stamps golden values, in a folder of its own."""
    monkeypatch.setenv("ASECALC_ML_HOME", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def shared_data() -> Path:
    """Folder of real reference data, beside the checkout where there is one."""
    from places import SHARED

    if not (SHARED / "data").is_dir():
        pytest.skip(f"no reference data at {SHARED / 'data'}")
    return SHARED / "data"


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium, see helpers/browser.py."""
    from browser import Browser, chromium

    if chromium() is None:
        pytest.skip("no Chromium on PATH")
    tab = Browser(tmp_path_factory.mktemp("browser"))
    yield tab
    tab.close()


@pytest.fixture(scope="session")
def tiny_model_file(tmp_path_factory) -> Path:
    """A model file: a small equivariant transformer with random weights, for H, C and O."""
    import torch

    from asecalc_ml.potentials.torchmdnet import EquivariantTransformer
    from asecalc_ml.store.model_file import save_model
    from asecalc_ml.structure.loading import load_structure
    from asecalc_ml.testing import untrained_card, untrained_model

    options = EquivariantTransformer(hidden_channels=16, n_layers=1, n_rbf=8, n_heads=2, max_atomic_number=20)
    model = untrained_model(options, dtype=torch.float32)
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_model(path, model, untrained_card("tiny", options, model, load_structure("ethanol")))
    return path


@pytest.fixture
def tiny_model(tiny_model_file, own_home) -> str:
    """Name of that model, registered in this test's own folder."""
    folder = own_home / "models"
    folder.mkdir(parents=True)
    shutil.copy(tiny_model_file, folder)
    return "tiny"
