"""The viewer: molecules made whole, few enough numbers, and a real browser that turns, chooses and prints."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from asecalc_ml.analysis.figures import BLUE, VERMILION
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.analysis.notebook import view
from asecalc_ml.analysis.relevance.output.figures import is_one_molecule
from asecalc_ml.analysis.relevance.output.page import is_beside_viewer, write_page
from asecalc_ml.analysis.relevance.output.results import (
    FrameRelevance,
    MethodRelevance,
    RelevanceResult,
    Structure,
)
from asecalc_ml.analysis.relevance.output.scene import relevance_scene
from asecalc_ml.analysis.report.run_scene import run_scene
from asecalc_ml.analysis.report.viewer import (
    MOST_FRAMES,
    MOST_NUMBERS,
    TILTED,
    DrawnMolecule,
    Picture,
    Scene,
    chosen_frames,
)
from asecalc_ml.analysis.report.whole_molecules import WholeMolecules
from asecalc_ml.md_protocols.scan.options import Scan
from asecalc_ml.md_protocols.transfer.options import Transfer
from asecalc_ml.runs import RunReader
from asecalc_ml.structure.topology.bonds import find_bonds_and_shifts

# ------------------------------------------------------------------------------------- whole molecules


def waters() -> Atoms:
    """Four molecules of water in a skewed cell."""
    atoms = Atoms(cell=[[6, 0, 0], [1, 7, 0], [0, 2, 6.5]], pbc=True)
    for k, place in enumerate([(0, 0, 0), (3, 3, 3), (6.3, 3.5, 0.2), (1, 6.8, 3.2)]):
        one = molecule("H2O")
        one.rotate(50 * k, (1, 2, 3))
        one.translate(np.array(place) - one.positions[0])
        atoms += one
    atoms.wrap()
    return atoms


STRUCTURES = {
    "water": waters(),
    "silicon": bulk("Si", cubic=True),
    "primitive silicon": bulk("Si"),
    "slab": fcc111("Cu", (2, 2, 2), vacuum=4.0),
    "molecule": molecule("CH3CH2OH"),
    "atoms apart": Atoms("Ar2", [(0, 0, 0), (4, 4, 4)], cell=[9, 9, 9], pbc=True),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_bonds_of_whole_molecules_are_as_long_as_they_were(name):
    atoms = STRUCTURES[name]
    whole = WholeMolecules(atoms)
    placed = whole.place(atoms.positions, atoms.cell.array)
    bonds, shifts = find_bonds_and_shifts(atoms)
    np.testing.assert_array_equal(whole.bonds, bonds)
    before = atoms.positions[bonds[:, 1]] - atoms.positions[bonds[:, 0]] + shifts @ atoms.cell.array
    after = placed[bonds[:, 1]] - placed[bonds[:, 0]] + whole.shifts @ atoms.cell.array
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_water_is_put_together_in_the_cell():
    atoms = STRUCTURES["water"]
    bonds, shifts = find_bonds_and_shifts(atoms)
    assert len(bonds) == 8
    assert shifts.any()  # some are cut
    whole = WholeMolecules(atoms)
    assert not whole.shifts.any()
    placed = whole.place(atoms.positions, atoms.cell.array).reshape(4, 3, 3)
    centres = np.linalg.solve(atoms.cell.array.T, placed.mean(axis=1).T)
    assert ((centres >= 0) & (centres < 1)).all()


@pytest.mark.parametrize("name", ["water", "silicon", "primitive silicon", "slab", "atoms apart"])
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_it_does_not_matter_in_which_images_a_frame_has_its_atoms(name, seed):
    atoms, rng = STRUCTURES[name], np.random.default_rng(seed)
    whole = WholeMolecules(atoms)
    cell = atoms.cell.array * rng.uniform(0.9, 1.1)
    positions = atoms.get_scaled_positions(wrap=False) @ cell + rng.normal(scale=0.03, size=(len(atoms), 3))
    jumps = rng.integers(-2, 3, size=(len(atoms), 3)) * atoms.pbc
    one, other = whole.place(positions, cell), whole.place(positions + jumps @ cell, cell)
    np.testing.assert_allclose(other, one, atol=1e-9)
    np.testing.assert_allclose(
        (moved := np.linalg.solve(cell.T, (one - positions).T)), np.round(moved), atol=1e-9
    )


# ----------------------------------------------------------------------------------------- what is kept


@given(n_frames=st.integers(1, 10**6), size=st.integers(1, 10**6))
def test_frames_are_evenly_spaced_and_few_enough(n_frames, size):
    found = chosen_frames(n_frames, size)
    assert found[0] == 0
    assert len(found) == 1 or found[-1] == n_frames - 1
    assert len(found) <= MOST_FRAMES
    assert len(found) == 1 or len(found) * size <= MOST_NUMBERS
    assert len(found) == 1 or np.ptp(np.diff(found)) <= 1


def test_a_large_system_stays_within_the_size_budget():
    rng = np.random.default_rng(0)
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    run = MemoryRun(atoms, atoms.positions + rng.normal(scale=0.1, size=(500, len(atoms), 3)))
    scene = run_scene(run)
    assert len(scene.frames) == MOST_NUMBERS // (3 * 216)
    assert "92 of 500 frames" in scene.caption
    assert len(scene.json()) < 400_000


def test_positions_and_labels_of_frames():
    atoms = molecule("H2O")
    positions = atoms.positions + np.arange(3)[:, None, None]
    scene = run_scene(MemoryRun(atoms, positions, frame_interval_fs=500.0))
    assert [frame.label for frame in scene.frames] == [
        "frame 0 of 2, 0 ps",
        "frame 1 of 2, 0.5 ps",
        "frame 2 of 2, 1 ps",
    ]
    data = json.loads(scene.json())
    shown = np.reshape(data["frames"][2]["positions"], (3, 3)) / 100
    np.testing.assert_allclose(shown, positions[2] - positions[2].mean(axis=0), atol=0.006)
    assert data["molecules"][0] == {"symbols": ["O", "H", "H"], "bonds": [[0, 1], [0, 2]]}


def test_points_of_a_scan_have_bonds_of_their_own(tmp_path):
    """The hydrogen that is pulled from one oxygen comes to another."""
    atoms = Atoms("OHO", [[0, 0, 0], [0.97, 0, 0], [3.5, 0, 0]])
    options = {"calculator": "ase.calculators.emt:EMT", "relax": False}
    ends = {"coordinate": [0, 1], "start": 0.97, "stop": 2.53, "points": 2}
    run = Scan(**options, **ends).run(atoms, tmp_path / "scan", quiet=True)
    scene = run_scene(run)
    assert [frame.molecule.bonds.tolist() for frame in scene.frames] == [[[0, 1]], [[1, 2]]]
    assert "Each structure has bonds of its own" in scene.caption


def test_a_transfer_test_shows_how_its_runs_end(tmp_path):
    emt = "ase.calculators.emt:EMT"
    short = {"steps": 20, "equilibration_ps": 0.01, "runs": 1, "reference_runs": 2, "write_every": 10}
    options = {"structure": "H2O", "transfer_to": ["CH4"], "calculator": emt, "reference": emt}
    run = Transfer(**options, **short).run(directory=tmp_path / "test", quiet=True)
    scene = run_scene(run)
    names = [
        f"{name}/{part}" for name in ("H2O", "CH4") for part in ("reference-1", "reference-2", "model-1")
    ]
    assert [frame.label for frame in scene.frames] == [f"{name}, 0.002 ps" for name in names]
    assert {len(frame.positions) for frame in scene.frames} == {3, 5}
    *_, last = RunReader(tmp_path / "test" / "CH4" / "model-1").frames()
    np.testing.assert_allclose(scene.frames[-1].positions, last.positions, atol=1e-6)


def test_text_of_a_scene_cannot_end_its_element():
    atoms = molecule("H2O")
    frame = Picture(
        DrawnMolecule(["O", "H", "H"], *find_bonds_and_shifts(atoms)),
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        "</script><b>",
    )
    text = Scene("a", "b", "c", [frame]).json()
    assert "<" not in text
    assert json.loads(text)["frames"][0]["label"] == "</script><b>"


@pytest.mark.parametrize("name", ["molecule", "water", "silicon"])
def test_the_first_view_is_a_rotation(name):
    atoms = STRUCTURES[name]
    rotation = np.array(json.loads(run_scene(MemoryRun(atoms, atoms.positions[None])).json())["view"])
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=2e-3)
    assert np.linalg.det(rotation) == pytest.approx(1, abs=2e-3)


# -------------------------------------------------------------------------------------------- relevance

VALUES = {"contributions": ([0.8, -0.4, 0.1], "eV"), "saliency": ([0.2, 1.0, 2.0], "eV/Å")}


def explained(n_frames: int = 3, atoms: Atoms | None = None, what: str = "energy") -> RelevanceResult:
    """Relevance that is made up; the second method has values of pairs."""
    atoms = molecule("H2O") if atoms is None else atoms
    bonds, shifts = find_bonds_and_shifts(atoms)
    structures, methods = [], []
    for k in range(n_frames):
        one = atoms.copy()
        one.positions[-1] += 0.15 * k
        structures.append(
            Structure(
                symbols=one.get_chemical_symbols(),
                positions_A=one.positions.tolist(),
                cell_A=one.cell.array.tolist(),
                pbc=one.pbc.tolist(),
                value=-14.5 - k,
                pairs=bonds[::-1].tolist(),
                pair_shifts=shifts[::-1].tolist(),
            )
        )
    for name, (some, unit) in VALUES.items():
        values = np.resize(some, len(atoms))
        frames = [
            FrameRelevance(
                atoms=(values / (1 + k)).tolist(),
                pairs=np.resize([-1.5, 0.5], len(bonds)).tolist() if name == "saliency" else [],
            )
            for k in range(n_frames)
        ]
        methods.append(MethodRelevance(method=name, title=name.capitalize(), unit=unit, frames=frames))
    return RelevanceResult(
        model="some-model",
        model_hash=None,
        architecture="schnet",
        target=what,
        target_unit="eV",
        structures=structures,
        methods=methods,
    )


def test_values_of_bonds_follow_the_bonds():
    first, second = relevance_scene(explained()).ways
    assert first.bonds == [None] * 3
    assert second.bonds == [[0.5, -1.5]] * 3  # listed the other way round
    assert (first.largest, second.largest) == (0.8, 2.0)


def test_structures_of_different_molecules_share_a_scene():
    water, methane = explained(1), explained(1, molecule("CH4"))
    both = RelevanceResult(
        **{
            **water.model_dump(),
            "structures": [*water.structures, *methane.structures],
            "methods": [
                MethodRelevance(method=a.method, title=a.title, unit=a.unit, frames=[*a.frames, *b.frames])
                for a, b in zip(water.methods, methane.methods, strict=True)
            ],
        }
    )
    assert not is_one_molecule(both)
    data = json.loads(relevance_scene(both).json())
    assert [len(one["symbols"]) for one in data["molecules"]] == [3, 5]
    assert [one["molecule"] for one in data["frames"]] == [0, 1]
    assert [len(values) for values in data["ways"][0]["atoms"]] == [3, 5]


def test_flat_molecules_stand_not_beside_the_viewer():
    result = explained()
    kept = [panel.key for panel in result.panels() if is_beside_viewer(result, panel)]
    assert kept == ["atoms-contributions", "atoms-saliency"]


def test_a_notebook_shows_the_viewer_in_a_frame_of_its_own():
    shown = view(explained())._repr_html_()
    assert shown.startswith('<iframe sandbox="allow-scripts"')
    assert "&lt;canvas" in shown
    assert "<canvas" not in shown


# ------------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_page(explained(), tmp_path_factory.mktemp("page"))


def rgb(color: str) -> np.ndarray:
    return np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])


def shade(value: float, largest: float) -> np.ndarray:
    """What 64 levels between white and an end make of a value."""
    share = round(64 * value / largest) / 64
    return np.round(255 + abs(share) * (rgb(VERMILION if share > 0 else BLUE) - 255))


def count(picture: np.ndarray, color: np.ndarray) -> int:
    """Pixels of a colour."""
    return int((np.abs(np.round(255 * picture[..., :3]) - color) <= 1).all(axis=-1).sum())


def covered(picture: np.ndarray) -> int:
    return int((picture[..., 3] > 0).sum())


def text(browser, selector: str) -> str:
    return browser.js(f"document.querySelector({selector!r}).textContent")


def test_atoms_have_the_colours_of_their_values_and_change_with_method_and_frame(browser, page):
    browser.open(page)
    browser.choose(".labels", "none")
    for way, (values, unit) in enumerate(VALUES.values()):
        browser.choose(".way", str(way))
        assert unit in text(browser, ".unit")
        for k in range(3):
            browser.choose(".frame", k, "input")
            picture = browser.pixels()
            for value in values:
                assert count(picture, shade(value / (1 + k), max(values))) > 300
            assert f"structure {k} of 2, energy −{14.5 + k} eV" == text(browser, ".state")
    browser.choose(".way", "")
    assert count(browser.pixels(), rgb("#ff0d0d")) > 300  # oxygen
    assert browser.js("document.querySelector('.scale').hidden")


def test_bonds_have_colours_where_there_are_values(browser, page):
    browser.open(page)
    browser.choose(".labels", "none")
    grey = rgb("#b4b9be")
    assert count(browser.pixels(), grey) > 500
    browser.choose(".way", "1")
    picture = browser.pixels()
    assert count(picture, grey) == 0
    assert count(picture, shade(-1.5, 2.0)) > count(picture, shade(0.5, 2.0)) > 100  # the larger is thicker


def test_a_bond_that_is_broken_is_not_drawn(browser, tmp_path):
    from asecalc_ml.analysis.report.page import render_page

    positions = np.zeros((2, 2, 3))
    positions[:, 1, 0] = (0.96, 1.56)  # 0.97 Å is the sum of covalent radii
    path = tmp_path / "oh.html"
    scene = run_scene(MemoryRun(Atoms("OH", positions[0]), positions))
    path.write_text(render_page("view.html", title="OH", kind="", scenes=[scene]))
    browser.open(path)
    browser.choose(".labels", "none")
    joined = browser.pixels()
    browser.choose(".frame", 1, "input")
    apart = browser.pixels()
    empty = [(one[..., 3].max(axis=0) == 0).nonzero()[0] for one in (joined, apart)]
    assert [(np.diff(columns) > 1).sum() for columns in empty] == [1, 2]  # one spot, then two


def test_scale_is_symmetric_and_has_numbers(browser, page):
    browser.open(page)
    assert [text(browser, f".{name}") for name in ("low", "high", "unit")] == [
        "−0.8",
        "+0.8",
        "Contributions (eV)",
    ]
    bar = browser.js("getComputedStyle(document.querySelector('.bar')).backgroundImage")
    assert [f"rgb({', '.join(map(str, rgb(one)))})" in bar for one in (BLUE, VERMILION)] == [True, True]


def test_the_slider_moves_atoms(browser, page):
    browser.open(page)
    browser.choose(".way", "")
    before = browser.pixels()
    browser.choose(".frame", 2, "input")
    assert (browser.pixels() != before).any(axis=-1).sum() > 1000
    browser.choose(".frame", 0, "input")
    assert (browser.pixels() == before).all()


def test_drag_and_keys_turn_and_magnify_and_reset_goes_back(browser, page):
    browser.open(page)
    before = browser.pixels()
    browser.drag("canvas", 120, 40)
    turned = browser.pixels()
    assert (turned != before).any(axis=-1).sum() > 2000
    for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"):
        last = browser.pixels()
        browser.key(key)
        assert (browser.pixels() != last).any(axis=-1).sum() > 500
    browser.key("0")
    assert (browser.pixels() == before).all()
    browser.key("+")
    assert covered(browser.pixels()) > 1.2 * covered(before)
    browser.key("-")
    browser.key("PageDown")
    assert text(browser, ".state").startswith("structure 1")
    browser.key("PageUp")
    browser.js("document.querySelector('.reset').click()")
    assert (browser.pixels() == before).all()


def test_controls_can_be_reached_and_used_by_keys(browser, page):
    browser.open(page)
    reached = []
    for _ in range(7):
        browser.key("Tab")
        reached.append(browser.js("document.activeElement.className || document.activeElement.tagName"))
        if reached[-1] == "frame":
            browser.key("ArrowRight")
            assert text(browser, ".state").startswith("structure 1")
    assert reached[:6] == ["CANVAS", "way", "labels", "frame", "play", "reset"]


def test_a_wheel_scrolls_the_page_until_the_picture_is_chosen(browser, page):
    browser.open(page)
    before = browser.pixels()
    x, y = browser.place("canvas")
    wheel = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": -200}
    browser.call("Input.dispatchMouseEvent", **wheel)
    assert (browser.pixels() == before).all()
    browser.js("document.querySelector('canvas').focus()")
    browser.call("Input.dispatchMouseEvent", **wheel)
    assert covered(browser.pixels()) > 1.2 * covered(before)


def test_two_fingers_magnify(browser, page):
    browser.open(page, width=390, height=844, mobile=True)
    before = browser.pixels()
    x, y = browser.place("canvas")
    for kind, apart in (("touchStart", 20), ("touchMove", 30), ("touchMove", 45), ("touchEnd", None)):
        points = (
            [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        )
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    assert covered(browser.pixels()) > 1.5 * covered(before)


def test_a_pointer_on_an_atom_tells_its_value(browser, page):
    browser.open(page)
    browser.choose(".labels", "none")
    picture = browser.pixels()
    hit = (np.abs(np.round(255 * picture[..., :3]) - shade(0.8, 0.8)) <= 1).all(axis=-1)
    row, column = (float(np.median(one)) for one in hit.nonzero())
    box = browser.js("(b => [b.x, b.y, b.width])(document.querySelector('canvas').getBoundingClientRect())")
    scale = box[2] / picture.shape[1]
    at = {"x": box[0] + scale * column, "y": box[1] + scale * row}
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
    browser.settle()
    assert text(browser, ".atom") == "O0 0.8 eV"


def test_play_goes_through_the_frames(browser, page):
    browser.open(page)
    browser.js("document.querySelector('.play').click()")
    seen = (
        "new Promise(done => new MutationObserver(() => done(document.querySelector('.state').textContent))"
    )
    seen += ".observe(document.querySelector('.state'), {childList: true}))"
    labels = [browser.js(seen) for _ in range(3)]
    assert len(set(labels)) > 1
    browser.js("document.querySelector('.play').click()")
    assert "Play" in text(browser, ".play")


def test_nothing_is_asked_for_and_nothing_can_be(browser, page, tmp_path):
    browser.open(page)
    browser.choose(".way", "1")
    browser.drag("canvas", 30, 30)
    assert browser.requests == [page.as_uri()]
    assert browser.complaints == []
    asking = tmp_path / "asking.html"
    host = "http://example.invalid"
    other = f'<script>fetch("{host}")</script><img src="{host}/x.png"><audio src="{host}/x.mp3"></audio>'
    asking.write_text(page.read_text().replace("</main>", f"{other}</main>"))
    browser.open(asking)
    assert set(browser.refused) == {"csp"}
    assert len(browser.complaints) == 3  # of script, picture and sound
    assert all("Content Security Policy" in one for one in browser.complaints)


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_in_one_direction(browser, page, width):
    browser.open(page, width=width, height=844, mobile=True)
    assert browser.js("document.documentElement.scrollWidth") == width
    assert covered(browser.pixels()) > 5000


def test_print_has_the_picture_and_the_scale_and_no_controls(browser, page):
    browser.open(page)
    browser.call("Emulation.setEmulatedMedia", media="print")
    shown = "getComputedStyle(document.querySelector('{}')).display != 'none'"
    assert [browser.js(shown.format(name)) for name in (".controls", "canvas", ".scale")] == [
        False,
        True,
        True,
    ]
    assert browser.pixels().shape[1] >= 2 * browser.js("document.querySelector('canvas').clientWidth") - 2


def test_depth_and_directions_of_the_view(browser, tmp_path):
    """Right, up and towards the reader are the rows of the first rotation."""
    from asecalc_ml.analysis.report.page import render_page

    def seen(places) -> tuple[np.ndarray, np.ndarray]:
        atoms = Atoms("ClO", 4 * (np.array(places) @ np.array(TILTED)))
        scene = run_scene(MemoryRun(atoms, atoms.positions[None]))
        path = tmp_path / "view.html"
        path.write_text(render_page("view.html", title="two", kind="", scenes=[scene]))
        browser.open(path)
        browser.choose(".labels", "none")
        picture = np.round(255 * browser.pixels()[..., :3])
        return tuple(
            np.argwhere((np.abs(picture - rgb(one)) <= 1).all(axis=-1)) for one in ("#1ff01f", "#ff0d0d")
        )

    chlorine, oxygen = seen([(0, 0, 1), (0, 0, -1)])
    assert len(chlorine) > 300
    assert len(oxygen) == 0  # behind
    chlorine, oxygen = seen([(1, 0, 0), (0, 1, 0)])
    assert chlorine[:, 1].mean() > oxygen[:, 1].mean()  # to the right
    assert chlorine[:, 0].mean() > oxygen[:, 0].mean()  # below


def test_a_periodic_liquid_with_its_cell(browser, tmp_path):
    from asecalc_ml.analysis.report.page import render_page

    atoms = waters() * (3, 3, 2)
    scene = run_scene(MemoryRun(atoms, atoms.positions[None]))
    path = tmp_path / "liquid.html"
    path.write_text(render_page("view.html", title="water", kind="", scenes=[scene]))
    browser.open(path)
    picture = browser.pixels()
    assert count(picture, rgb("#8c8c8c")) > 300  # edges of the cell
    assert count(picture, rgb("#ff0d0d")) > 72 * 10
    began = browser.js("performance.now()")
    for _ in range(10):
        browser.key("ArrowLeft")
    browser.js("document.querySelector('canvas').focus()")
    for _ in range(10):
        browser.key("ArrowLeft")
    assert browser.js("performance.now()") - began < 20_000
    assert (browser.pixels() != picture).any()
