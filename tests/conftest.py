"""Fixtures that several tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each test registers models, and stamps golden values, in a folder of its own."""
    monkeypatch.setenv("ASECALC_ML_HOME", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def shared_data() -> Path:
    """Folder of real reference data, beside the checkout where there is one."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data at {SHARED}")
    return SHARED
