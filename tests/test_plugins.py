"""Plugins by name: ours, a third party's without reinstalling, and the errors."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from asecalc_ml import plugins
from asecalc_ml.errors import PluginError

THIRD_PARTY = '''
from typing import Literal
from pydantic import Field
from asecalc_ml.md_protocols.options import ProtocolOptions

class Umbrella(ProtocolOptions):
    """Umbrella sampling."""

    protocol: Literal["NAME"] = Field("NAME", description="umbrella sampling")

    def stages(self):
        return []
'''
ASK = (
    "from asecalc_ml import plugins; "
    "print(plugins.get('protocols', 'umbrella').__doc__, plugins.names('protocols'))"
)


def make_package(folder: Path, target: str = "umbrella_md:Umbrella", name: str = "umbrella") -> None:
    """What `pip install` leaves of a package with one entry point."""
    (folder / "umbrella_md.py").write_text(THIRD_PARTY.replace("NAME", name))
    info = folder / f"{name.replace('-', '_')}_md-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-md\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[asecalc_ml.protocols]\n{name} = {target}\n")


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    make_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("group", "name"),
    [("architectures", "morse"), ("protocols", "nve"), ("analyses", "bond-lengths"), ("datasets", "rmd17")],
)
def test_ours_are_found(group, name):
    assert name in plugins.names(group)


@pytest.mark.smoke
def test_third_party_is_found_without_reinstalling(third_party):
    assert "umbrella" in plugins.names("protocols")
    assert plugins.get("protocols", "umbrella").__doc__ == "Umbrella sampling."


@pytest.mark.smoke
def test_third_party_is_found_in_a_fresh_process(tmp_path):
    make_package(tmp_path)
    code = f"import sys; sys.path[:0] = {[str(tmp_path), *filter(None, sys.path)]!r}; {ASK}"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.startswith("Umbrella sampling. [")
    assert "'nve'" in output


def test_unknown_name_says_the_nearest_and_the_remedy():
    with pytest.raises(
        PluginError, match=r"no analysis 'bond_length'; did you mean 'bond-lengths'\?"
    ) as caught:
        plugins.get("analyses", "bond_length")
    assert "pip install -e ." in str(caught.value)


def test_unknown_name_far_from_all_lists_them():
    with pytest.raises(PluginError, match=r"no protocol 'qqq'\. Registered are .*nve"):
        plugins.get("protocols", "qqq")


def test_unknown_group():
    with pytest.raises(PluginError, match="groups are architectures, protocols, analyses, datasets"):
        plugins.names("recipes")


def test_name_claimed_twice(tmp_path, monkeypatch):
    make_package(tmp_path, name="nve")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        PluginError, match=r"'nve' is registered twice, as asecalc_ml.* and umbrella_md:Umbrella"
    ):
        plugins.get("protocols", "nve")


@pytest.mark.parametrize("target", ["umbrella_md:Parasol", "parasol_md:Parasol"])
def test_plugin_that_cannot_be_imported(tmp_path, monkeypatch, target):
    make_package(tmp_path, target)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=f"'umbrella' \\({target}\\) cannot be loaded"):
        plugins.get("protocols", "umbrella")


def test_checkout_wins_over_an_installed_copy(tmp_path, monkeypatch):
    """Ours come from this checkout's setup.cfg alone."""
    if not plugins.is_checkout():
        pytest.skip("runs against an installed wheel")

    class Installed:
        name = "asecalc_ml"  # as some tools spell it

    old = EntryPoint("nvt-of-last-year", "asecalc_ml.md_protocols.old:Old", "asecalc_ml.protocols")
    vars(old)["dist"] = Installed
    monkeypatch.setattr(plugins, "entry_points", lambda group: [old])
    monkeypatch.syspath_prepend(tmp_path)  # another search path, on which nothing was found yet
    assert "nvt-of-last-year" not in plugins.names("protocols")
    assert "nve" in plugins.names("protocols")
