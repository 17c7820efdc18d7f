"""The laws that every architecture obeys, as a class to inherit.

Nothing is compared with stored numbers: random weights obey the same laws as trained ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from numpy.typing import ArrayLike
from torch.utils._pytree import tree_leaves

from asecalc_ml.analysis.relevance import explain
from asecalc_ml.analysis.relevance.subject import embedding_modules
from asecalc_ml.config.options import Options
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.graph_of import graph_of
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.graph.triplets import pad_triplets
from asecalc_ml.model.chunks import ChunkShape, chunked_derivative
from asecalc_ml.model.compile.edge_list import edge_list_program, trace
from asecalc_ml.model.compile.molecules.all_pairs import Molecules, NotDenseError
from asecalc_ml.model.compile.molecules.batches import fill
from asecalc_ml.model.compile.molecules.molecule_graph import (
    MoleculeInput,
    known_call,
    molecule_program,
    trace_with_edge_list,
)
from asecalc_ml.model.compile.program import as_function
from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative, forces
from asecalc_ml.model.evaluator import Evaluation, Evaluator, assemble
from asecalc_ml.model.heads.build import build_heads
from asecalc_ml.model.heads.values import values_of
from asecalc_ml.model.memory_needed import peak_of, peak_of_the_whole
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import AtomOutput, PotentialInput
from asecalc_ml.potentials.training.frames.batches import loader
from asecalc_ml.potentials.training.frames.labelled_graphs import LabelledGraph
from asecalc_ml.potentials.training.optimization.agreement import check_step
from asecalc_ml.potentials.training.optimization.flat_weights import FlatWeights
from asecalc_ml.potentials.training.optimization.whole_step import step_graph, step_of
from asecalc_ml.potentials.training.options import LossOptions
from asecalc_ml.store.model_file import read_model, save_model
from asecalc_ml.targets import parse_targets
from asecalc_ml.testing.models import compiled_agrees, untrained_card, untrained_model, without_ghost
from asecalc_ml.testing.options import OptionChecks
from asecalc_ml.testing.structures import cluster, random_rotation, real_molecule, small_crystal

STEP_A = 1e-4  # of finite differences

#: What hooks understand among the arguments of an interaction block.
SEEN = (torch.Tensor, torch.nn.Module, int, float, bool, str, type(None))


class PotentialChecks(OptionChecks):
    """Inherit, give ``options``, and pytest runs the checks.

    All checks use random weights in float64 unless they say otherwise.

    Attributes
    ----------
    options : Options
        Of the architecture; a small network serves, since laws do not depend on size.
    elements : sequence of str
        Elements that the network takes.
    spacing_A : float
        Distance at which its atoms are happy, well below the cutoff.
    mirror : bool
        Whether energies are the same for mirror images.
    unused_parameters : sequence of str
        Patterns (as file names have them) of parameters that no energy depends on, such as those of an
        output that is dropped. Every other parameter must receive a gradient.

    Examples
    --------
    >>> from asecalc_ml.model.pair_potentials import Morse
    >>> class TestMorse(PotentialChecks):
    ...     options = Morse(r0_A=1.2)
    """

    group: ClassVar[str] = "architectures"
    options: ClassVar[Options]
    elements: ClassVar[Sequence[str]] = ("H", "C", "O")
    spacing_A: ClassVar[float] = 1.3
    mirror: ClassVar[bool] = True
    unused_parameters: ClassVar[Sequence[str]] = ()

    # -------------------------------------------------------------------------------- what is checked

    def model(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> Model:
        """A model with random weights."""
        return untrained_model(self.options, seed, dtype)

    def molecule(self, n_atoms: int = 6, seed: int = 0) -> Atoms:
        """A molecule without symmetry."""
        if self.molecules_only:
            return real_molecule(n_atoms, seed)
        return cluster(self.elements, self.spacing_A, n_atoms, seed)

    def crystal(self) -> Atoms:
        """Three atoms in a cell that is smaller than the cutoff."""
        return small_crystal(self.elements, self.spacing_A)

    @property
    def fewest_atoms(self) -> int:
        """Atoms of the smallest structure that the architecture takes."""
        return 2 if self.molecules_only else 1

    @cached_property
    def molecules_only(self) -> bool:
        """True if the architecture takes molecular graphs."""
        return self.model().molecular_graph

    def examples(self) -> list[Atoms]:
        """A molecule and a crystal; two molecules for an architecture of molecular graphs."""
        return [self.molecule(), self.molecule(4) if self.molecules_only else self.crystal()]

    def evaluate(self, atoms: Atoms | Sequence[Atoms], model: Model | None = None) -> Evaluation:
        """Results for one structure or a batch."""
        model = self.model() if model is None else model
        structures = [atoms] if isinstance(atoms, Atoms) else atoms
        graphs = [graph_of(structure, model) for structure in structures]
        return Evaluator(model)(collate(graphs))

    def raw_output(self, atoms: Atoms, model: Model) -> tuple[AtomOutput, torch.Tensor]:
        """What the architecture itself returns, the ghost included, and each atom's system."""
        inputs = self.inputs(atoms, model)
        return model(inputs).potential, inputs.batch

    def inputs(self, atoms: Atoms, model: Model, n_extra: int = 0) -> PotentialInput:
        """What the architecture is given, with so many more edges and triplets of the ghost."""
        graph = graph_of(atoms, model)
        inputs = with_ghost(graph, model.cutoff, graph.n_edges + n_extra, model.triplet_cutoff)
        return inputs if inputs.triplets is None else pad_triplets(inputs, inputs.triplets.shape[1] + n_extra)

    # ------------------------------------------------------------------------------------ derivatives

    def test_forces_are_the_slope_of_the_energy(self) -> None:
        atoms, model = self.molecule(), self.model()
        numerical = np.zeros((len(atoms), 3))
        for index in np.ndindex(numerical.shape):
            energies = [self.evaluate(_moved(atoms, index, s * STEP_A), model).energy[0] for s in (1, -1)]
            numerical[index] = -(energies[0] - energies[1]) / (2 * STEP_A)
        _assert_close(self.evaluate(atoms, model).forces, numerical, 1e-5)

    def test_forces_depend_on_positions(self) -> None:
        """Zero forces would pass every other check."""
        sizes = [self.evaluate(self.molecule(seed=seed)).forces.abs().max() for seed in (0, 1)]
        assert sizes[0] > 0
        assert sizes[0] != sizes[1]

    def test_stress_is_the_slope_under_strain(self) -> None:
        self._skip_if_molecules_only()
        atoms, model = self.crystal(), self.model()
        numerical = np.zeros((3, 3))
        for a, b in np.ndindex(3, 3):
            energies = [self.evaluate(_strained(atoms, a, b, s * STEP_A), model).energy[0] for s in (1, -1)]
            numerical[a, b] = (energies[0] - energies[1]) / (2 * STEP_A)
        _assert_close(self.evaluate(atoms, model).virial[0], numerical, 1e-5)

    def test_virials_of_atoms_are_slopes_under_a_strain_of_their_edges(self) -> None:
        """A strain (w_i + w_j) ε / 2 of each edge changes the energy by Σ_i w_i W_i : ε."""
        atoms, model, random = self.examples()[1], self.model(), np.random.default_rng(3)
        inputs, n_atoms = self.inputs(atoms, model), len(atoms)
        atomic = Evaluator(model).atomic_virials(graph_of(atoms, model))
        _assert_close(atomic.sum(dim=0), self.evaluate(atoms, model).virial[0], 1e-10)
        for _ in range(3):
            strain = torch.tensor(random.uniform(-0.5, 0.5, (3, 3)))
            strain = strain + strain.T
            weights = torch.tensor([*random.uniform(-1, 1, n_atoms), 0.0])  # the ghost's edges stay
            of_edges = weights[inputs.edge_index].mean(dim=0)[:, None]
            energies = [
                model(inputs._replace(edge_vectors=inputs.edge_vectors + move)).systems[0].detach()
                for move in (s * STEP_A * of_edges * (inputs.edge_vectors @ strain) for s in (1, -1))
            ]
            slope = (energies[0] - energies[1]) / (2 * STEP_A)
            expected = (weights[:-1, None, None] * atomic * strain).sum()
            _assert_close(slope, expected, 1e-5, scale=atomic.abs().sum())

    def test_net_force_is_zero(self) -> None:
        for atoms in self.examples():
            forces = self.evaluate(atoms).forces
            _assert_close(forces.sum(dim=0), np.zeros(3), 1e-9, scale=forces)

    # ------------------------------------------------------------------------------------- symmetries

    def test_rotation(self) -> None:
        self._check_turned(random_rotation(1))

    def test_reflection(self) -> None:
        if not self.mirror:
            pytest.skip("this architecture tells mirror images apart")
        self._check_turned(-random_rotation(2))

    def test_translation(self) -> None:
        for atoms in self.examples():
            moved = atoms.copy()
            moved.translate([3.7, -41.3, 0.9])
            _assert_same(self.evaluate(atoms), self.evaluate(moved))

    def test_atoms_outside_their_cell(self) -> None:
        self._skip_if_molecules_only()
        atoms = self.crystal()
        outside = atoms.copy()
        outside.positions[1] += atoms.cell[0] - 2 * atoms.cell[2]
        _assert_same(self.evaluate(atoms), self.evaluate(outside))

    def test_charge_and_spin_count_where_they_are_taken(self) -> None:
        self._skip_if_molecules_only()
        for key in ("charge", "spin"):
            atoms, other = self.molecule(), self.molecule()
            other.info[key] = 2
            same = torch.equal(self.evaluate(atoms).energies, self.evaluate(other).energies)
            assert same == (key not in self.model().potential.takes)

    def test_permutation(self) -> None:
        atoms = self.molecule()
        order = np.random.default_rng(0).permutation(len(atoms))
        before, after = self.evaluate(atoms), self.evaluate(atoms[order])
        _assert_close(after.energy, before.energy, 1e-10)
        _assert_close(after.forces, before.forces[order], 1e-9)
        _assert_close(after.energies, before.energies[order], 1e-10)

    def _check_turned(self, matrix: np.ndarray) -> None:
        for atoms in self.examples():
            turned = atoms.copy()
            turned.set_cell(atoms.cell.array @ matrix.T)
            turned.positions = atoms.positions @ matrix.T
            before, after = self.evaluate(atoms), self.evaluate(turned)
            _assert_close(after.energy, before.energy, 1e-10)
            _assert_close(after.forces, before.forces.numpy() @ matrix.T, 1e-8)
            _assert_close(after.virial[0], matrix @ before.virial[0].numpy() @ matrix.T, 1e-8)

    # ------------------------------------------------------------------------------- batches and cells

    def test_batch_is_one_by_one(self) -> None:
        model = self.model()
        structures = [
            self.molecule(4),
            *self.examples(),
            self.molecule(self.fewest_atoms),
            self.molecule(6, seed=1),
        ]
        batch, alone = (
            self.evaluate(structures, model),
            [self.evaluate(structure, model) for structure in structures],
        )
        for name in ("energy", "energies", "forces", "virial"):
            _assert_close(
                getattr(batch, name), torch.cat([getattr(evaluation, name) for evaluation in alone]), 1e-10
            )

    def test_ghost_edges_change_nothing(self) -> None:
        for atoms in self.examples():
            for n_extra in (0, 1, 1000):
                _assert_same(self.evaluate(atoms), self._padded(atoms, n_extra))

    def test_thousands_of_ghost_edges_leave_the_ghost_ordinary(self) -> None:
        """Values that overflow there would hide wrong ones of atoms, and make a loss NaN."""
        atoms, model = self.molecule(), self.model()
        if not model.potential.continuous:
            pytest.skip("an architecture without a cutoff function sums what it is given")
        few, many = (edge_derivative(model, self.inputs(atoms, model, n_extra)) for n_extra in (1, 5000))
        for name in ("atoms", "gradient"):
            values = getattr(many, name).abs()
            assert values[-1].max() <= 10 * getattr(few, name).abs().max() + 1e-6

    def test_pairs_beyond_the_cutoff_change_nothing(self) -> None:
        """All pairs, as a molecule has them, and only those within the cutoff, as a list has them."""
        self._skip_if_molecules_only()
        model = self.model()
        atoms = _stretched(self.molecule(), 0.8 * model.potential.cutoff)
        cutoff = model.potential.cutoff
        every, near = (AtomGraph.from_atoms(atoms, cutoff, backend) for backend in ("all-pairs", "vesin"))
        assert every.n_edges > near.n_edges
        evaluator = Evaluator(model)
        _assert_same(evaluator(every), evaluator(near))

    def test_small_cell_is_its_supercell(self) -> None:
        self._skip_if_molecules_only()
        atoms, model = self.crystal(), self.model()
        self._skip_unless_additive(atoms, model)
        small, large = self.evaluate(atoms, model), self.evaluate(atoms * (2, 1, 2), model)
        _assert_close(large.energy, 4 * small.energy, 1e-10)
        _assert_close(large.forces, small.forces.repeat(4, 1), 1e-8)
        _assert_close(large.virial, 4 * small.virial, 1e-8)

    def _padded(self, atoms: Atoms, n_extra: int) -> Evaluation:
        model = self.model()
        inputs = self.inputs(atoms, model, n_extra)
        return assemble(inputs, edge_derivative(model, inputs))

    # -------------------------------------------------------------------------------- few atoms, cutoff

    def test_isolated_atom(self) -> None:
        self._skip_if_molecules_only()
        for symbol in self.elements:
            for atoms in (Atoms(symbol), Atoms(symbol, cell=100 * np.eye(3), pbc=True)):
                evaluation = self.evaluate(atoms)
                assert torch.isfinite(evaluation.energy).all()
                assert not evaluation.forces.any()
                assert not evaluation.virial.any()

    def test_far_atoms_do_not_see_each_other(self) -> None:
        self._skip_if_molecules_only()
        model = self.model()
        far = Atoms([self.elements[0], self.elements[-1]], [[0, 0, 0], [0, 0, 3 * model.potential.cutoff]])
        self._skip_unless_additive(far, model)
        together, alone = self.evaluate(far, model), self.evaluate([far[:1], far[1:]], model)
        assert not together.forces.any()
        _assert_close(together.energy.sum(), alone.energy.sum(), 1e-12)

    def test_continuous_where_an_atom_crosses_the_cutoff(self) -> None:
        """The jump shrinks with the step, for a lone atom and for one with neighbors of its own."""
        model = self.model()
        if not model.potential.continuous:
            pytest.skip("this architecture says itself that it is not continuous")
        for group in (1, 2):
            near = self._jump(model, group, 1e-3)
            for step in (1e-4, 1e-6):  # at the last, weights in a quotient are zero both
                jump = self._jump(model, group, step)
                assert jump <= max(2000 * step, 0.02) * near + 1e-9, f"a jump of {jump:.1e} eV or eV/Å"

    def _jump(self, model: Model, group: int, step: float) -> float:
        """Largest change of energy and forces as a group of atoms crosses the cutoff by this step, Å."""
        outside, inside = (self.evaluate(self._crossing(model, group, s * step), model) for s in (1, -1))
        force = (outside.forces - inside.forces).abs().max()
        return float(max(force, (outside.energy - inside.energy).abs().max()))

    def _crossing(self, model: Model, group: int, offset: float) -> Atoms:
        """A pair, and a group whose nearest atom is at the cutoff plus the offset from the pair's first."""
        pair = np.array([[0, 0, 0], [-0.6, -0.8, 0.0]]) * self.spacing_A
        along = np.array([0.36, 0.48, 0.80])
        start = (model.potential.cutoff + offset) * along
        others = start + self.spacing_A * np.arange(group)[:, None] * along
        symbols = [self.elements[k % len(self.elements)] for k in range(2 + group)]
        return Atoms(symbols, np.concatenate([pair, others]))

    def test_perfect_symmetry_has_finite_gradients(self) -> None:
        """Where vectors cancel, a norm has no derivative; training meets it in every linear molecule."""
        d = self.spacing_A
        symmetric = Atoms([self.elements[-1], *2 * [self.elements[0]]], [[0, 0, 0], [0, 0, d], [0, 0, -d]])
        if self.molecules_only:
            symmetric = molecule("CO2")
        for atoms in (symmetric, self.molecule(self.fewest_atoms)):
            for gradient in self._gradients(atoms).values():
                assert gradient is None or torch.isfinite(gradient).all()

    # ---------------------------------------------------------------------------------- ways of running

    def test_traced_is_eager(self) -> None:
        """The second structure has the first one's shape: nothing of the first may be baked in."""
        model = self.model()
        for pbc in (False,) if self.molecules_only else (False, True):
            structures = [self._in_box(seed, pbc) for seed in (0, 1)]
            if not self.molecules_only:
                structures[1].numbers = structures[1].numbers[::-1]
            first, second = self._of_one_shape(structures, model)
            traced = trace(model.requires_grad_(False), first)
            for inputs, atoms in zip((first, second), structures, strict=True):
                traced_evaluation = assemble(inputs, EdgeDerivative(*traced(*inputs.tensors)))
                _assert_same(traced_evaluation, self.evaluate(atoms, model), 1e-10)

    def _of_one_shape(self, structures: Sequence[Atoms], model: Model) -> list[PotentialInput]:
        graphs = [graph_of(atoms, model) for atoms in structures]
        capacity = max(graph.n_edges for graph in graphs)
        inputs = [with_ghost(graph, model.cutoff, capacity, model.triplet_cutoff) for graph in graphs]
        if model.triplet_cutoff is None:
            return inputs
        n_triplets = max(graph.triplets.shape[1] for graph in inputs if graph.triplets is not None)
        return [pad_triplets(graph, n_triplets) for graph in inputs]

    def _in_box(self, seed: int, pbc: bool) -> Atoms:
        atoms = self.molecule(5, seed)
        atoms.set_cell(4 * self.spacing_A * np.eye(3))
        atoms.pbc = pbc
        return atoms

    def test_molecules_in_an_array_are_eager(self) -> None:
        """As they are traced for compiling, and with an edge list in its place; atoms may be missing."""
        self._skip_if_molecules_only()
        model = self.model().eval().requires_grad_(False)
        if model.triplet_cutoff is not None:
            pytest.skip("triplets have an edge list of their own")
        arrays = self._arrays(model)
        calls = {name: known_call(model, molecules) for name, molecules in arrays.items()}
        example = arrays["all pairs inside the cutoff"]
        graphs = {
            "compiled": molecule_program(example).trace(model),
            "edge list": trace_with_edge_list(model, example),
        }
        disagreeing = [
            (graph, name)
            for graph, traced in graphs.items()
            for name, call in calls.items()
            if not call.agrees_with(as_function(traced))
        ]
        assert disagreeing == []

    def _arrays(self, model: Model) -> dict[str, MoleculeInput]:
        """Four molecules of up to eight atoms in every situation."""

        def array(sizes: Sequence[int], scale: float, ions: bool = False) -> MoleculeInput:
            structures = [self.molecule(size, seed) for seed, size in enumerate(sizes)]
            for number, atoms in enumerate(structures):
                atoms.positions *= scale
                if ions:
                    atoms.numbers = atoms.numbers[::-1]
                    atoms.info.update(charge=number - 1, spin=number)
            return fill(structures, Molecules(4, 8))

        largest = max(self.molecule(8, seed).get_all_distances().max() for seed in range(4))
        return {
            "all pairs inside the cutoff": array([8, 8, 8, 8], 0.9 * model.cutoff / largest),
            "some pairs beyond it": array([8, 8, 8, 8], 1.6 * model.cutoff / largest),
            "all pairs beyond it": array([8, 8], 10 * model.cutoff / self.spacing_A),
            "other numbers of atoms": array([1, 8, 5, 2], 1.0),
            "other elements, charge and spin": array([6, 6, 7, 7], 1.1, ions=True),
        }

    @pytest.mark.slow
    def test_compiled_is_eager(self, tmp_path: Path) -> None:
        model = self.model(dtype=torch.float32).eval().requires_grad_(False)
        program = edge_list_program(self.inputs(self.molecule(), model, n_extra=3))
        assert compiled_agrees(model, program, tmp_path)

    @pytest.mark.slow
    @pytest.mark.parametrize("forces_weight", [0.0, 1.0])
    def test_a_traced_training_step_is_the_eager_one(self, forces_weight: float) -> None:
        """Loss and gradient of each parameter, in a molecule and a crystal with stress; labels are absent."""
        model = self.model()
        if not list(model.parameters()):
            pytest.skip("there is nothing to train")
        graphs = [graph_of(a, model) for a in self.examples()]
        random = torch.Generator().manual_seed(0)
        frames = [
            LabelledGraph(
                graph,
                energy=None if k == 0 else torch.randn(1, generator=random, dtype=torch.float64),
                forces=torch.randn(graph.n_atoms, 3, generator=random, dtype=torch.float64),
                stress=None
                if k == 0 or self.molecules_only
                else 0.1 * torch.eye(3, dtype=torch.float64)[None],
            )
            for k, graph in enumerate(graphs)
        ]
        (batch,) = loader(frames, model.cutoff, 2, triplet_cutoff=model.triplet_cutoff)
        loss, weights = (
            LossOptions(
                forces_weight=forces_weight, stress_weight=0.0 if self.molecules_only else forces_weight
            ),
            FlatWeights(model),
        )
        check_step(step_of(step_graph(model, weights, batch, loss)), model, weights, [batch], loss)

    @pytest.mark.slow
    @pytest.mark.parametrize("forces_weight", [0.0, 1.0])
    def test_a_training_step_on_arrays_is_the_eager_one(self, forces_weight: float) -> None:
        """For molecules of one size, of which some have pairs beyond the cutoff."""
        self._skip_if_molecules_only()
        model = self.model()
        structures = [self.molecule(6, seed) for seed in range(3)]
        structures[0].positions *= 1.01 * model.cutoff / np.median(structures[0].get_all_distances())
        graphs = [graph_of(atoms, model) for atoms in structures]
        random = torch.Generator().manual_seed(0)
        frames = [
            LabelledGraph(
                graph,
                energy=torch.randn(1, generator=random, dtype=torch.float64),
                forces=torch.randn(graph.n_atoms, 3, generator=random, dtype=torch.float64),
            )
            for graph in graphs
        ]
        loss = LossOptions(forces_weight=forces_weight)
        (batch,) = loader(frames, model.cutoff, 3, triplet_cutoff=model.triplet_cutoff)
        weights = FlatWeights(model) if list(model.parameters()) else pytest.skip("there is nothing to train")
        try:
            graph = step_graph(model, weights, batch, loss, all_pairs=True)
        except NotDenseError as reason:
            pytest.skip(str(reason))
        check_step(step_of(graph), model, weights, [batch], loss)

    def test_chunks_give_the_numbers_of_the_whole(self) -> None:
        """For chunks of one atom, of some and of all, padded or not; one cell is smaller than the cutoff."""
        model = self.model()
        if model.potential.stages is None:
            pytest.skip("this architecture is computed whole")
        ion = self.molecule(5, seed=1)
        ion.info["charge"] = 1
        structures = [self.crystal(), ion, self.molecule(1), self.molecule()]
        graph = collate([graph_of(atoms, model) for atoms in structures])
        inputs = with_ghost(graph, model.cutoff)
        most = int(inputs.edge_index[0].bincount().max())
        expected = without_ghost(edge_derivative(model, inputs), inputs)
        shapes = (ChunkShape(1, 1), ChunkShape(4, 2 * most), ChunkShape(4, 2 * most, padded=True), None)
        for shape in shapes:
            derivative = without_ghost(chunked_derivative(model, inputs, shape), inputs)
            for name, values in expected._asdict().items():
                _assert_close(getattr(derivative, name), values, 1e-10)

    def test_memory_is_known_beforehand(self) -> None:
        """What torch's fake tensors would take is what real ones take."""
        model = self.model().requires_grad_(False)
        atoms = self.molecule(9) if self.molecules_only else self.crystal()
        inputs = self.inputs(atoms, model)
        real = peak_of(lambda: edge_derivative(model, inputs))
        assert abs(peak_of_the_whole(model, inputs) / real - 1) < 0.2

    def test_twice_is_the_same(self) -> None:
        model = self.model()
        first, second = self.evaluate(self.molecule(), model), self.evaluate(self.molecule(), model)
        assert torch.equal(first.energy, second.energy)
        assert torch.equal(first.forces, second.forces)

    def test_float32_is_close_to_float64(self) -> None:
        atoms = self.molecule()
        exact, single = self.evaluate(atoms), self.evaluate(atoms, self.model(dtype=torch.float32))
        assert single.energy.dtype == single.forces.dtype == torch.float64
        _assert_close(single.forces, exact.forces, 1e-4)
        _assert_close(single.energies, exact.energies, 1e-5)

    def test_same_seed_same_weights(self) -> None:
        first, second, other = (self.model(seed).state_dict() for seed in (3, 3, 4))
        assert all(torch.equal(first[name], second[name]) for name in first)
        if list(self.model().parameters()):
            assert any(not torch.equal(first[name], other[name]) for name in first)

    def test_saved_is_loaded(self, tmp_path: Path) -> None:
        for dtype in (torch.float32, torch.float64):
            model, atoms, path = self.model(dtype=dtype), self.molecule(), tmp_path / "saved.safetensors"
            save_model(path, model, untrained_card("saved", self.options, model, atoms))
            loaded, card = read_model(path)
            assert card.hyperparameters == self.options.model_dump(mode="json")
            assert loaded.dtype == dtype
            assert torch.equal(self.evaluate(atoms, loaded).forces, self.evaluate(atoms, model).forces)

    # -------------------------------------------------------------------------------------------- parts

    def test_contributions_are_linear_in_features(self) -> None:
        model = self.model()
        output, batch = self.raw_output(self.molecule(), model)
        assert output.features.shape[0] == len(batch)
        weight, bias = model.potential.last_linear
        linear = output.features @ weight.T + bias
        if output.contributions is not None:
            _assert_close(output.contributions.detach(), linear.detach(), 1e-12)

    def test_vectors_turn_with_the_molecule(self) -> None:
        model, matrix, atoms = self.model(), random_rotation(5), self.molecule()
        before = self.raw_output(atoms, model)[0].vectors
        atoms.positions = atoms.positions @ matrix.T
        after = self.raw_output(atoms, model)[0].vectors
        if before is None or after is None:
            pytest.skip("this architecture has no vectors")
        turned = torch.einsum("ab,ibf->iaf", torch.from_numpy(matrix), before[: len(atoms)].detach())
        _assert_close(after[: len(atoms)].detach(), turned, 1e-9)

    def test_vectors_are_counted(self) -> None:
        """``n_vectors`` is what heads of vectors and tensors are built for."""
        model = self.model()
        vectors = self.raw_output(self.molecule(), model)[0].vectors
        assert model.potential.n_vectors == (0 if vectors is None else vectors.shape[2])

    def test_heads_give_scalars_vectors_and_tensors(self) -> None:
        """Quantities other than the energy, from the same body: they turn with the molecule."""
        potential = self.model().potential
        targets = ["homo", "zpve", *(["dipole", "polarizability"] if potential.atom_features else [])]
        quantities = [target.as_quantity() for target in parse_targets(targets)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Model(potential, heads=build_heads(quantities, potential)).set_dtype(torch.float64)
        atoms, matrix = self.molecule(), random_rotation(6)
        turned = atoms.copy()
        turned.positions = atoms.positions @ matrix.T
        before, after = (values_of(model, [graph_of(one, model)])[0] for one in (atoms, turned))
        rotation = torch.from_numpy(matrix)
        for name, value in before.items():
            expected = value
            for axis in range(value.dim()):
                expected = torch.tensordot(rotation, expected, dims=([1], [axis])).movedim(0, axis)
            _assert_close(after[name], expected, 1e-8)

    def test_named_parts_are_run(self) -> None:
        """Hooks reach embeddings, interactions and readout, in this order."""
        model = self.model()
        potential = model.potential
        parts = [*potential.embeddings, *potential.interactions, potential.readout]
        known, calls = set(potential.modules()), []
        assert all(part in known for part in parts)
        handles = [part.register_forward_hook(lambda part, *_: calls.append(part)) for part in parts]
        self.raw_output(self.molecule(), model)
        for handle in handles:
            handle.remove()
        interactions = list(potential.interactions)
        assert [part for part in calls if part in interactions] == interactions
        assert set(calls) == set(parts)
        assert calls[-1] is potential.readout

    def test_named_parts_take_and_return_what_hooks_see(self) -> None:
        """Tables of embeddings and attention return a tensor each; interactions deal in tensors.

        These may come as arguments or keyword arguments, alone or in tuples, lists and dicts. What lies in
        an object of another kind cannot be seen, and methods such as walks would silently be missing.
        """
        model = self.model()
        potential, n_rows = model.potential, len(self.molecule()) + 1

        def look_at_table(part: torch.nn.Module, inputs: object, output: object) -> None:
            assert isinstance(output, torch.Tensor), (
                f"{type(part).__name__} returns a {type(output).__name__}"
            )
            assert part in potential.attentions or len(output) == n_rows, "a row for each atom is missing"

        def look_at_block(part: torch.nn.Module, inputs: object, keywords: object, output: object) -> None:
            for value in tree_leaves((inputs, keywords)):
                assert isinstance(value, SEEN), f"{type(part).__name__} is given a {type(value).__name__}"
            for value in tree_leaves(output):
                assert isinstance(value, torch.Tensor), (
                    f"{type(part).__name__} returns {type(value).__name__}"
                )

        for part in (*embedding_modules(potential), *potential.attentions):
            part.register_forward_hook(look_at_table)
        for part in potential.interactions:
            part.register_forward_hook(look_at_block, with_kwargs=True)
        self.raw_output(self.molecule(), model)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_every_method_of_relevance_that_is_offered_works(self) -> None:
        """Maps are finite and go with the atoms when their order changes; LRP shares out the whole energy."""
        model, atoms, order = self.model(), self.molecule(4), [2, 0, 3, 1]
        structures = [atoms, atoms[order]]
        explanation = explain(model, structures, quiet=True, method="all", pairs="none", compared_frames=0)
        names = [result.method for result in explanation.methods]
        assert {"saliency", "lrp", "occlusion"} <= set(names)
        assert ("grad-cam" in names) == bool(model.potential.interactions)
        assert ("attention" in names) == bool(model.potential.attentions)
        for name in names:
            first, second = (np.array(frame.atoms) for frame in explanation.of(name).frames)
            assert np.isfinite(first).all(), name
            _assert_close(second, first[order], 1e-7)
        frame, energy = explanation.of("lrp").frames[0], explanation.structures[0].value
        assert sum(frame.atoms) + sum(frame.absorbed.values()) == pytest.approx(energy, abs=1e-8)

    def test_attention_weights_are_reached(self) -> None:
        """Each gives a weight for every edge and head, and then for every atom that attends to itself."""
        model = self.model()
        if not model.potential.attentions:
            pytest.skip("this architecture has no attention")
        rows = []
        for part in model.potential.attentions:
            part.register_forward_hook(lambda part, inputs, weights: rows.append(weights.shape))
        self.raw_output(self.molecule(), model)
        graph = graph_of(self.molecule(), model)
        assert len(rows) == len(model.potential.attentions)
        assert {len(shape) for shape in rows} == {2}
        assert {n for n, _ in rows} <= {graph.n_edges, graph.n_edges + graph.n_atoms + 1}

    def test_every_parameter_is_trained(self) -> None:
        gradients = self._gradients(self.molecule())
        without = {name for name, gradient in gradients.items() if gradient is None or not gradient.any()}
        expected = {
            name for name in gradients if any(fnmatch(name, pattern) for pattern in self.unused_parameters)
        }
        assert without == expected

    def _gradients(self, atoms: Atoms) -> dict[str, torch.Tensor | None]:
        """Gradient of a loss on energy and forces with respect to each of the architecture's parameters."""
        model = self.model()
        inputs = self.inputs(atoms, model)
        derivative = edge_derivative(model, inputs, create_graph=True)
        pull = forces(derivative.gradient, inputs.edge_index, inputs.n_atoms)
        loss = derivative.systems[0] + (pull[:-1] ** 2).sum()
        parameters = dict(model.potential.named_parameters())
        if not parameters:
            return {}
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return dict(zip(parameters, gradients, strict=True))

    def _skip_if_molecules_only(self) -> None:
        if self.molecules_only:
            pytest.skip("this architecture takes molecules with bonds, all of whose pairs are edges")

    def _skip_unless_additive(self, atoms: Atoms, model: Model) -> None:
        if self.raw_output(atoms, model)[0].contributions is None:
            pytest.skip("the readout of this architecture is not a sum over atoms")


def _moved(atoms: Atoms, index: tuple[int, ...], step: float) -> Atoms:
    moved = atoms.copy()
    moved.positions[index] += step
    return moved


def _strained(atoms: Atoms, a: int, b: int, step: float) -> Atoms:
    """A symmetric strain, so that rotations, which cost nothing, stay out of it."""
    strain = np.eye(3)
    strain[a, b] += step / 2
    strain[b, a] += step / 2
    strained = atoms.copy()
    strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return strained


def _stretched(atoms: Atoms, length: float) -> Atoms:
    """Neighbors along one line at this distance (Å), so that next neighbors are beyond the cutoff."""
    stretched = atoms.copy()
    stretched.positions = np.arange(len(atoms))[:, None] * length * np.array([0.36, 0.48, 0.80])
    return stretched


def _assert_same(first: Evaluation, second: Evaluation, tolerance: float = 1e-9) -> None:
    for name in ("energy", "energies", "forces", "virial"):
        _assert_close(getattr(first, name), getattr(second, name), tolerance)


def _assert_close(
    values: ArrayLike, expected: ArrayLike, tolerance: float, scale: ArrayLike | None = None
) -> None:
    """Agreement relative to the largest of all entries, or to one where all are smaller than 1e-3."""
    values, expected = np.asarray(values), np.asarray(expected)
    largest = np.abs(np.asarray(expected if scale is None else scale)).max(initial=0.0)
    np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance * max(largest, 1e-3))
