"""The rooms: what is packaged is what lies on the disk, and who may import whom."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import EntryPoint, version
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import asecalc_ml
from asecalc_ml._checkout import PACKAGE, ROOMS, ROOT, is_checkout
from asecalc_ml._moved import MOVED
from asecalc_ml.contracts import mistake

needs_checkout = pytest.mark.skipif(
    not is_checkout(), reason="compares setup.cfg with the checkout's folders"
)
HEAVY = {"torch", "lightning", "torchmdnet", "warp", "wandb", "ase", "numpy", "scipy", "matplotlib"}


def setup_cfg() -> ConfigParser:
    setup = ConfigParser(interpolation=None, delimiters=("=",))
    setup.read(ROOT / "setup.cfg")
    return setup


def folder_of(package: str) -> Path:
    """Where a package's files are in the checkout."""
    first, *rest = package.split(".")
    return ROOT.joinpath(*(rest if rest and rest[0] in ROOMS else [first, *rest]))


def name_of(file: Path) -> str:
    """Module name of a file in the checkout."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "asecalc_ml" else ("asecalc_ml", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files() -> list[Path]:
    return sorted(chain.from_iterable((ROOT / top).rglob("*.py") for top in ("asecalc_ml", *ROOMS)))


def python(code: str, cwd: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(
        command, cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False
    )


# ---------------------------------------------------------------------- packaging


@needs_checkout
def test_every_package_on_the_disk_is_listed():
    listed = setup_cfg()["options"]["packages"].split()
    on_disk = {name_of(file) for file in source_files() if file.name == "__init__.py"}
    assert set(listed) == on_disk
    assert len(listed) == len(set(listed))


@needs_checkout
def test_every_module_lies_in_a_package():
    assert not [file for file in source_files() if not (file.parent / "__init__.py").is_file()]


@needs_checkout
def test_every_data_file_is_packaged_and_every_pattern_finds_one():
    patterns = setup_cfg()["options.package_data"]
    packaged: set[Path] = set()
    for package, lines in patterns.items():
        for pattern in lines.split():
            found = set(folder_of(package).glob(pattern))
            assert found, f"{package}: {pattern} matches no file"
            packaged |= found
    files = chain.from_iterable((ROOT / top).rglob("*") for top in ("asecalc_ml", *ROOMS))
    data = {f for f in files if f.is_file() and f.suffix not in (".py", ".pyc")}
    assert not data - packaged


def entry_points() -> list[EntryPoint]:
    section = setup_cfg()["options.entry_points"] if is_checkout() else {}
    lines = [(group, line) for group, text in section.items() for line in text.strip().splitlines()]
    pairs = [(group, *map(str.strip, line.split("=", 1))) for group, line in lines]
    return [EntryPoint(name, value, group) for group, name, value in pairs]


@needs_checkout
@pytest.mark.parametrize("point", entry_points(), ids=lambda point: f"{point.group}:{point.name}")
def test_every_entry_point_can_be_imported(point):
    found, (package, _, group) = point.load(), point.group.partition(".")
    assert mistake(group, point.name, found) is None if package == "asecalc_ml" else found is not None


@pytest.mark.smoke
@pytest.mark.skipif("EXPECT_WHEEL" not in os.environ, reason="set by .ci/run, which installs the wheel")
def test_the_installed_wheel_is_what_runs():
    assert not is_checkout()
    assert "site-packages" in asecalc_ml.__file__
    assert version("asecalc-ml") == asecalc_ml.__version__


@pytest.mark.smoke
def test_type_checkers_of_other_projects_read_the_annotations():
    assert (PACKAGE / "py.typed").is_file()


@needs_checkout
def test_version_is_written_once():
    assert setup_cfg()["metadata"]["version"] == "attr: asecalc_ml.__version__"
    assert asecalc_ml.__version__.count(".") == 2


def requirements() -> list[tuple[str, str]]:
    """Extra ("" for those always needed) and package of each requirement in setup.cfg."""
    setup = setup_cfg()
    sections = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    lines = [(extra, line) for extra, text in sections.items() for line in text.strip().splitlines()]
    named = {(extra, Requirement(line).name) for extra, line in lines}
    return sorted((extra, package) for extra, package in named if package != "asecalc-ml")


@needs_checkout
def test_the_page_of_dependencies_lists_every_requirement_once():
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    required, extras = re.search(r"\n## Required\n(.*?)\n## Extras\n(.*?)\n## ", page, re.DOTALL).groups()
    rows = [("", package) for package in re.findall(r"^\| `([^`]+)` \|", required, re.MULTILINE)]
    rows += re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", extras, re.MULTILINE)
    assert sorted(rows) == requirements()


@needs_checkout
def test_constraints_are_releases_that_setup_cfg_allows():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    allowed = [Requirement(line) for line in setup_cfg()["options"]["install_requires"].strip().splitlines()]
    for pinned in (Requirement(line) for line in lines if not line.startswith("#")):
        release = str(pinned.specifier).removeprefix("==").replace("*", "0")
        assert any(one.name == pinned.name and one.specifier.contains(release) for one in allowed)


@needs_checkout
def test_the_lowest_python_is_the_same_everywhere():
    lowest = setup_cfg()["options"]["python_requires"].removeprefix(">=")
    plugin = (ROOT / "examples" / "plugin" / "setup.cfg").read_text(encoding="utf-8")
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert f"python_requires = >={lowest}\n" in plugin
    assert ruff["target-version"] == "py" + lowest.replace(".", "")
    assert re.findall(r":: (3\.\d+)", setup_cfg()["metadata"]["classifiers"])[0] == lowest


# ---------------------------------------------------------------------- who imports whom


ABOVE = ("cli", "testing")


def room_of(module: str) -> str:
    """A room, "cli", "testing", or "ground" for the rest of the package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*ROOMS, *ABOVE) else "ground"


def imported(source: str, module: str, is_package: bool) -> set[str]:
    """Modules of this package that a source imports, at its top or inside functions."""
    here = module.split(".") if is_package else module.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            stem = ".".join([*base, *filter(None, [node.module])])
            found |= {f"{stem}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("asecalc_ml", *ROOMS)}


def forbidden(source: str, module: str, is_package: bool = False) -> set[str]:
    """Imports against the rule: rooms and ground import the ground; what stands above them imports all."""
    own = room_of(module)
    allowed = {"ground", own, *(ROOMS if own in ABOVE else ())}
    names = imported(source, module, is_package)
    return {name for name in names if name.split(".")[0] in ROOMS or room_of(name) not in allowed}


@needs_checkout
@pytest.mark.parametrize("file", source_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_rooms_do_not_import_each_other(file):
    assert not forbidden(file.read_text(encoding="utf-8"), name_of(file), file.name == "__init__.py")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("asecalc_ml.analysis.distributions.angles", "import asecalc_ml.potentials"),
        ("asecalc_ml.analysis.distributions.angles", "from asecalc_ml import md_protocols"),
        (
            "asecalc_ml.analysis.distributions.angles",
            "def late():\n    from asecalc_ml.potentials.training import train",
        ),
        ("asecalc_ml.analysis.distributions.angles", "from ...potentials import training"),
        ("asecalc_ml.analysis.distributions.angles", "from potentials import training"),
        ("asecalc_ml.analysis.distributions.angles", "from asecalc_ml.cli.errors import friendly"),
        ("asecalc_ml.store.registry", "from asecalc_ml.potentials import training"),
    ],
)
def test_the_rule_fires(module, source):
    assert forbidden(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "asecalc_ml.analysis.distributions.angles",
            "from asecalc_ml.analysis.result import Result\nfrom . import report",
        ),
        (
            "asecalc_ml.potentials.schnet",
            "from asecalc_ml import plugins\nfrom asecalc_ml.errors import ModelError",
        ),
        ("asecalc_ml.cli.ml", "from asecalc_ml.potentials.training import train"),
    ],
)
def test_the_rule_lets_pass(module, source):
    assert not forbidden(source, module)


# ---------------------------------------------------------------------- folders, names and circles

MOST_FILES = 14

#: An option model makes its network in ``build``, and the network reads the options that it is made from.
PAIRS: set[frozenset[str]] = set()


@needs_checkout
def test_no_folder_has_too_many_files():
    files = [*source_files(), *(ROOT / "tests").rglob("*.py")]
    sizes = Counter(str(file.parent.relative_to(ROOT)) for file in files)
    assert not {folder: size for folder, size in sizes.items() if size > MOST_FILES}


@needs_checkout
def test_the_page_of_the_layout_lists_every_folder_once():
    rows = re.findall(r"^\| `([\w/]+)/` \|", (ROOT / "docs" / "layout.md").read_text("utf-8"), re.MULTILINE)
    packages = {str(file.parent.relative_to(ROOT)) for file in source_files() if file.name == "__init__.py"}
    assert sorted(rows) == sorted(packages)


@needs_checkout
def test_no_public_class_name_is_used_twice():
    places = defaultdict(list)
    for file in source_files():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name_of(file))
    assert not {name: modules for name, modules in places.items() if len(modules) > 1}


def imports_at_run_time(tree: ast.AST) -> Iterator[ast.ImportFrom | ast.Import]:
    """Imports at the top and inside functions, without those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        yield from imports_at_run_time(node)


def imported_modules(tree: ast.AST, modules: set[str]) -> set[str]:
    """Modules of this package that a source imports when it runs."""
    names: set[str] = set()
    for node in imports_at_run_time(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in modules else node.module for name in full}
    return names & modules


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that import each other, directly or through others."""
    pairs = [(module, other) for module, others in imports.items() for other in others]
    numbers = {module: number for number, module in enumerate(imports)}
    rows, columns = zip(*[(numbers[a], numbers[b]) for a, b in pairs], strict=True)
    matrix = coo_array(([1] * len(rows), (rows, columns)), shape=(len(numbers), len(numbers)))
    _, labels = connected_components(matrix, directed=True, connection="strong")
    groups = defaultdict(set)
    for module, label in zip(imports, labels, strict=True):
        groups[label].add(module)
    return [group for group in groups.values() if len(group) > 1]


@needs_checkout
def test_no_imports_in_a_circle():
    """Imports inside functions count: they hide a circle and do not remove it."""
    trees = {name_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in source_files()}
    imports = {module: imported_modules(tree, set(trees)) - {module} for module, tree in trees.items()}
    assert not [sorted(circle) for circle in circles(imports) if frozenset(circle) not in PAIRS]


def test_a_circle_is_found():
    imports = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"d"}}
    assert circles(imports) == [{"a", "b", "c"}]


@needs_checkout
def test_a_former_name_is_no_module_of_today():
    """The finder of former names answers first and would hide it."""
    names = {name_of(file) for file in source_files()}
    assert not set(MOVED) & names
    assert not set(MOVED.values()) - names


# ---------------------------------------------------------------------- the commands are quick


def modules_after(program: str, arguments: list[str], cwd: Path) -> set[str]:
    """Top-level modules that are loaded when a command has answered."""
    code = (
        f"import sys; sys.argv = {[f'asecalc-{program}', *arguments]!r}\n"
        f"from asecalc_ml.cli.{program} import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sorted({n.split('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = python(code, cwd, PYTHONPATH=str(PACKAGE.parent))
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("md", ["--help"]),
        ("md", ["run", "--help"]),
        ("md", ["schema", "nve"]),
        ("md", ["template", "nve"]),
        ("ml", ["--help"]),
        ("ml", ["train", "--help"]),
        ("ml", ["models", "--help"]),
        ("ml", ["check", "--help"]),
        ("ml", ["compile", "--help"]),
        ("ml", ["template", "train"]),
        ("ml", ["template", "generate"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_command_answers_without_heavy_imports(program, arguments, tmp_path):
    assert not modules_after(program, arguments, tmp_path) & HEAVY


@needs_checkout
@pytest.mark.parametrize("group", ["analyses", "protocols", "architectures", "datasets"])
def test_options_load_without_heavy_imports(group, tmp_path):
    """Options may import NumPy and ASE, so that a measurement lies next to them, and nothing slower."""
    code = f"import sys\nfrom asecalc_ml.plugins import loaded\nassert loaded({group!r})\nprint(*sys.modules)"
    done = python(code, tmp_path, PYTHONPATH=str(PACKAGE.parent))
    assert done.returncode == 0, done.stderr
    assert not {name.split(".")[0] for name in done.stdout.split()} & (HEAVY - {"ase", "numpy"})


def test_import_of_the_package_is_light(tmp_path):
    code = "import asecalc_ml, sys; print(*{n.split('.')[0] for n in sys.modules})"
    done = python(code, tmp_path, PYTHONPATH=str(PACKAGE.parent))
    assert not set(done.stdout.split()) & HEAVY


# ---------------------------------------------------------------------- rooms are found


@pytest.fixture
def trees(tmp_path):
    """The package as a checkout and as a wheel, with little in it."""
    for package in (tmp_path / "checkout" / "asecalc_ml", tmp_path / "wheel" / "asecalc_ml"):
        package.mkdir(parents=True)
        for name in ("__init__.py", "_checkout.py", "_lazy.py", "_moved.py"):
            shutil.copy(PACKAGE / name, package)
    (tmp_path / "checkout" / "setup.cfg").touch()
    for room in ROOMS:
        for place in (tmp_path / "checkout" / room, tmp_path / "wheel" / "asecalc_ml" / room):
            place.mkdir()
            text = Path(sys.modules[f"asecalc_ml.{room}"].__file__).read_text(encoding="utf-8")
            (place / "__init__.py").write_text(text, encoding="utf-8")
            (place / "deeper.py").touch()
    return tmp_path


IMPORT_ALL = "import sys, asecalc_ml; from importlib import import_module as get\n" + "".join(
    f"print(get('asecalc_ml.{room}').__file__, get('asecalc_ml.{room}.deeper').__name__)\n" for room in ROOMS
)


@pytest.fixture(autouse=True, scope="module")
def _rooms_are_loaded():
    for room in ROOMS:
        __import__(f"asecalc_ml.{room}")


@pytest.mark.parametrize("layout", ["checkout", "wheel"])
@pytest.mark.parametrize("cwd", ["checkout", "elsewhere"])
def test_rooms_are_found_from_anywhere(trees, layout, cwd):
    """At the root of a checkout, `python -c` takes the package from there, whatever is installed."""
    (trees / "elsewhere").mkdir()
    done = python(IMPORT_ALL, trees / cwd, PYTHONPATH=str(trees / layout))
    assert done.returncode == 0, done.stderr
    taken = "checkout" if cwd == "checkout" else layout
    assert all(line.startswith(str(trees / taken)) for line in done.stdout.splitlines())


def test_checkout_beside_an_editable_installation_of_another(trees):
    """The other checkout's finder offers its rooms; ours must win."""
    other = (
        "import sys\nfrom importlib.util import spec_from_file_location as spec\n"
        "class Editable:\n    @staticmethod\n    def find_spec(name, path=None, target=None):\n"
        f"        room = {str(trees / 'wheel' / 'asecalc_ml')!r} + '/' + name.rpartition('.')[2]\n"
        "        return spec(name, room + '/__init__.py') if name.count('.') == 1 else None\n"
        "sys.meta_path.append(Editable)\n"
    )
    done = python(other + IMPORT_ALL, trees / "checkout")
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(trees / "checkout")) for line in done.stdout.splitlines())


@pytest.mark.parametrize("mode", [["pytest"], ["python", "-m", "pytest"]], ids=" ".join)
def test_rooms_are_found_under_pytest(trees, mode):
    root = trees / "checkout"
    (root / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\npythonpath = .\n")
    (root / "tests").mkdir()
    checks = "".join(f"    import asecalc_ml.{room}.deeper\n" for room in ROOMS)
    (root / "tests" / "test_rooms.py").write_text(f"def test_rooms():\n{checks}")
    command = [str(Path(sys.executable).with_name(mode[0])), *mode[1:], "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_bare_import_of_a_room_is_refused(trees, room):
    done = python(f"import {room}", trees / "checkout")
    assert f"ImportError: import asecalc_ml.{room} instead of {room}" in done.stderr


def test_users_own_analysis_is_left_alone(trees):
    """A script beside its own analysis.py gets that one, and ours under our name."""
    work = trees / "elsewhere"
    work.mkdir()
    (work / "analysis.py").write_text("mine = True\n")
    code = "import asecalc_ml.analysis, analysis; print(analysis.mine, asecalc_ml.analysis.__file__)"
    done = python(code, work, PYTHONPATH=str(trees / "checkout"))
    assert done.stdout.startswith(f"True {trees / 'checkout' / 'analysis'}"), done.stderr


# ---------------------------------------------------------------------- ruff's rules fire

BAD = """
import os
from numpy import *

def many(a, b, c, d, e, f, g, h, i, unused=[]):
    if a:
        pass
    elif b: x = 1
    elif c: x = 2
    elif d: x = 3
    elif e: x = 4
    elif f: x = 5
    elif g: x = 6
    elif h: x = 7
    elif i and b and c: x = 8
    for k in a:
        if k and x:
            pass
    assert x == None
    import numpy; numpy.random.seed(0)
"""


@needs_checkout
@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("C901", "too complex"),
        ("PLR0913", "too many arguments"),
        ("D103", "no docstring"),
        ("B006", "mutable default"),
        ("F401", "unused import"),
        ("F403", "star import"),
        ("E711", "comparison with None"),
        ("NPY002", "numpy's global random state"),
        ("PLR0912", "too many branches"),
    ],
)
def test_ruff_rule_fires(rule, what, bad_code_findings):
    assert rule in bad_code_findings, what


@pytest.fixture(scope="module")
def bad_code_findings():
    pytest.importorskip("ruff")
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--output-format=json",
        "--stdin-filename=analysis/bad.py",
        "-",
    ]
    done = subprocess.run(command, cwd=ROOT, input=BAD, capture_output=True, text=True, check=False)
    return {finding["code"] for finding in json.loads(done.stdout)}
