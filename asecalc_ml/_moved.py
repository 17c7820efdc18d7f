"""Modules of versions up to 0.1.0 under their former names.

Checkpoints, plugins and scripts of that time name modules that have moved since. An import of a former name
gives the module at its new place, with a ``DeprecationWarning``: both names are one module.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType

MOVED = {
    "asecalc_ml.analysis.angles": "asecalc_ml.analysis.distributions.angles",
    "asecalc_ml.analysis.bond_lengths": "asecalc_ml.analysis.distributions.bond_lengths",
    "asecalc_ml.analysis.chains": "asecalc_ml.analysis.distributions.internal_coordinates",
    "asecalc_ml.analysis.committee_deviation": "asecalc_ml.analysis.checks.committee_deviation",
    "asecalc_ml.analysis.compare": "asecalc_ml.analysis.comparing.compare",
    "asecalc_ml.analysis.compared_functions": "asecalc_ml.analysis.comparing.compared_functions",
    "asecalc_ml.analysis.comparison": "asecalc_ml.analysis.comparing.comparison",
    "asecalc_ml.analysis.comparison_page": "asecalc_ml.analysis.comparing.page",
    "asecalc_ml.analysis.conformers": "asecalc_ml.analysis.distributions.conformers",
    "asecalc_ml.analysis.conformers_measurement": "asecalc_ml.analysis.distributions.conformers",
    "asecalc_ml.analysis.connectivity": "asecalc_ml.analysis.checks.connectivity",
    "asecalc_ml.analysis.connectivity_measurement": "asecalc_ml.analysis.checks.connectivity",
    "asecalc_ml.analysis.dihedrals": "asecalc_ml.analysis.distributions.dihedrals",
    "asecalc_ml.analysis.displacement": "asecalc_ml.analysis.functions.mean_square_displacement",
    "asecalc_ml.analysis.displacement_measurement": "asecalc_ml.analysis.functions.mean_square_displacement",
    "asecalc_ml.analysis.distances": "asecalc_ml.analysis.comparing.wasserstein",
    "asecalc_ml.analysis.distribution": "asecalc_ml.analysis.distributions.distribution",
    "asecalc_ml.analysis.distribution_measurement": "asecalc_ml.analysis.distributions.distribution",
    "asecalc_ml.analysis.energy_drift": "asecalc_ml.analysis.checks.energy_drift",
    "asecalc_ml.analysis.energy_exchange": "asecalc_ml.analysis.checks.energy_exchange",
    "asecalc_ml.analysis.energy_exchange_measurement": "asecalc_ml.analysis.checks.energy_exchange",
    "asecalc_ml.analysis.harmonic": "asecalc_ml.analysis.functions.harmonic",
    "asecalc_ml.analysis.internal_coordinates": "asecalc_ml.analysis.distributions.unwrapping",
    "asecalc_ml.analysis.normal_modes": "asecalc_ml.analysis.functions.normal_modes",
    "asecalc_ml.analysis.numbers": "asecalc_ml.analysis.number_text",
    "asecalc_ml.analysis.patterns": "asecalc_ml.analysis.distributions.internal_coordinates",
    "asecalc_ml.analysis.peaks": "asecalc_ml.analysis.functions.peaks",
    "asecalc_ml.analysis.pressure": "asecalc_ml.analysis.checks.pressure",
    "asecalc_ml.analysis.radial": "asecalc_ml.analysis.functions.radial_distribution",
    "asecalc_ml.analysis.radial_measurement": "asecalc_ml.analysis.functions.radial_distribution",
    "asecalc_ml.analysis.relaxation": "asecalc_ml.analysis.checks.relaxation",
    "asecalc_ml.analysis.relevance.attention": "asecalc_ml.analysis.relevance.methods.activations",
    "asecalc_ml.analysis.relevance.cam": "asecalc_ml.analysis.relevance.methods.activations",
    "asecalc_ml.analysis.relevance.chemiscope_file": "asecalc_ml.analysis.relevance.output.chemiscope_file",
    "asecalc_ml.analysis.relevance.comparison": "asecalc_ml.analysis.relevance.output.comparison",
    "asecalc_ml.analysis.relevance.contributions": "asecalc_ml.analysis.relevance.methods.activations",
    "asecalc_ml.analysis.relevance.figures": "asecalc_ml.analysis.relevance.output.figures",
    "asecalc_ml.analysis.relevance.found": "asecalc_ml.analysis.relevance.methods.method_output",
    "asecalc_ml.analysis.relevance.grad_cam": "asecalc_ml.analysis.relevance.methods.activations",
    "asecalc_ml.analysis.relevance.gradient_edges": "asecalc_ml.analysis.relevance.methods.gradients",
    "asecalc_ml.analysis.relevance.gradient_embeddings": "asecalc_ml.analysis.relevance.methods.gradients",
    "asecalc_ml.analysis.relevance.hidden": "asecalc_ml.analysis.relevance.methods.hidden",
    "asecalc_ml.analysis.relevance.integrated_gradients": "asecalc_ml.analysis.relevance.methods.gradients",
    "asecalc_ml.analysis.relevance.notebook": "asecalc_ml.analysis.relevance.output.notebook",
    "asecalc_ml.analysis.relevance.occlusion": "asecalc_ml.analysis.relevance.methods.occlusion",
    "asecalc_ml.analysis.relevance.page": "asecalc_ml.analysis.relevance.output.page",
    "asecalc_ml.analysis.relevance.propagation": "asecalc_ml.analysis.relevance.lrp.propagation",
    "asecalc_ml.analysis.relevance.registry": "asecalc_ml.analysis.relevance.methods.registry",
    "asecalc_ml.analysis.relevance.results": "asecalc_ml.analysis.relevance.output.results",
    "asecalc_ml.analysis.relevance.rules": "asecalc_ml.analysis.relevance.lrp.rules",
    "asecalc_ml.analysis.relevance.saliency": "asecalc_ml.analysis.relevance.methods.gradients",
    "asecalc_ml.analysis.relevance.scene": "asecalc_ml.analysis.relevance.output.scene",
    "asecalc_ml.analysis.relevance.tables": "asecalc_ml.analysis.relevance.output.tables",
    "asecalc_ml.analysis.relevance.walks": "asecalc_ml.analysis.relevance.lrp.walks",
    "asecalc_ml.analysis.report_page": "asecalc_ml.analysis.report.page",
    "asecalc_ml.analysis.rigid_motion": "asecalc_ml.analysis.functions.rigid_motion",
    "asecalc_ml.analysis.rotors": "asecalc_ml.analysis.distributions.rotors",
    "asecalc_ml.analysis.run_scene": "asecalc_ml.analysis.report.run_scene",
    "asecalc_ml.analysis.scan_curve": "asecalc_ml.analysis.scan.curve",
    "asecalc_ml.analysis.scan_figure": "asecalc_ml.analysis.scan.figure",
    "asecalc_ml.analysis.scan_followed": "asecalc_ml.analysis.scan.followed",
    "asecalc_ml.analysis.scan_measurement": "asecalc_ml.analysis.scan.scan",
    "asecalc_ml.analysis.scan_states": "asecalc_ml.analysis.scan.states",
    "asecalc_ml.analysis.temperature": "asecalc_ml.analysis.checks.temperature",
    "asecalc_ml.analysis.time_band": "asecalc_ml.analysis.checks.thermo_series",
    "asecalc_ml.analysis.training_domain": "asecalc_ml.analysis.distributions.training_domain",
    "asecalc_ml.analysis.transfer_distance": "asecalc_ml.analysis.transfer.distance",
    "asecalc_ml.analysis.transfer_figure": "asecalc_ml.analysis.transfer.figure",
    "asecalc_ml.analysis.transfer_measurement": "asecalc_ml.analysis.transfer.transfer",
    "asecalc_ml.analysis.transfer_records": "asecalc_ml.analysis.transfer.records",
    "asecalc_ml.analysis.vibrational": "asecalc_ml.analysis.functions.vibrational_density",
    "asecalc_ml.analysis.vibrational_measurement": "asecalc_ml.analysis.functions.vibrational_density",
    "asecalc_ml.analysis.viewer": "asecalc_ml.analysis.report.viewer",
    "asecalc_ml.analysis.wells": "asecalc_ml.analysis.distributions.rotors",
    "asecalc_ml.analysis.whole_molecules": "asecalc_ml.analysis.report.whole_molecules",
    "asecalc_ml.architectures": "asecalc_ml.model.architectures",
    "asecalc_ml.calculator": "asecalc_ml.calculators.ml_calculator",
    "asecalc_ml.calculator_arguments": "asecalc_ml.calculators.arguments",
    "asecalc_ml.card": "asecalc_ml.store.card",
    "asecalc_ml.chains": "asecalc_ml.structure.topology.chains",
    "asecalc_ml.changes": "asecalc_ml.calculators.changes",
    "asecalc_ml.cli.campaign_driver": "asecalc_ml.md_protocols.campaign.scheduler",
    "asecalc_ml.cli.campaign_executors": "asecalc_ml.jobs.executors",
    "asecalc_ml.cli.campaign_progress": "asecalc_ml.cli.campaign.progress",
    "asecalc_ml.cli.campaign_table": "asecalc_ml.cli.campaign.table",
    "asecalc_ml.cli.campaign_worker": "asecalc_ml.cli.campaign.worker",
    "asecalc_ml.cli.check": "asecalc_ml.cli.commands.check",
    "asecalc_ml.cli.compare": "asecalc_ml.cli.commands.compare",
    "asecalc_ml.cli.compile": "asecalc_ml.cli.commands.compile",
    "asecalc_ml.cli.draw_map": "asecalc_ml.cli.commands.draw_map",
    "asecalc_ml.cli.explain": "asecalc_ml.cli.commands.explain",
    "asecalc_ml.cli.import_models": "asecalc_ml.cli.commands.import_models",
    "asecalc_ml.cli.models": "asecalc_ml.cli.commands.models",
    "asecalc_ml.committee": "asecalc_ml.calculators.committee",
    "asecalc_ml.compiled": "asecalc_ml.model.compile.compiled_graph",
    "asecalc_ml.composite": "asecalc_ml.calculators.composite",
    "asecalc_ml.conformance.batch": "asecalc_ml.conformance.checks.batch",
    "asecalc_ml.conformance.compare": "asecalc_ml.conformance.deviations",
    "asecalc_ml.conformance.crossing": "asecalc_ml.conformance.checks.continuity",
    "asecalc_ml.conformance.derivatives": "asecalc_ml.conformance.checks.derivatives",
    "asecalc_ml.conformance.dynamics": "asecalc_ml.conformance.checks.dynamics",
    "asecalc_ml.conformance.few_atoms": "asecalc_ml.conformance.checks.few_atoms",
    "asecalc_ml.conformance.periodic": "asecalc_ml.conformance.checks.periodic",
    "asecalc_ml.conformance.precision": "asecalc_ml.conformance.checks.precision",
    "asecalc_ml.conformance.process": "asecalc_ml.conformance.checks.process",
    "asecalc_ml.conformance.resources": "asecalc_ml.conformance.checks.resources",
    "asecalc_ml.conformance.state": "asecalc_ml.conformance.checks.state",
    "asecalc_ml.conformance.symmetries": "asecalc_ml.conformance.checks.symmetries",
    "asecalc_ml.correction_terms": "asecalc_ml.calculators.correction_terms",
    "asecalc_ml.corrections": "asecalc_ml.calculators.corrections",
    "asecalc_ml.cuda_graph": "asecalc_ml.model.compile.cuda_graph",
    "asecalc_ml.cutoffs": "asecalc_ml.graph.cutoffs",
    "asecalc_ml.derivative": "asecalc_ml.model.derivative",
    "asecalc_ml.dft": "asecalc_ml.calculators.dft",
    "asecalc_ml.dipoles": "asecalc_ml.model.dipoles",
    "asecalc_ml.evaluator": "asecalc_ml.model.evaluator",
    "asecalc_ml.frames": "asecalc_ml.runs.frames",
    "asecalc_ml.full_disk": "asecalc_ml.files.full_disk",
    "asecalc_ml.ghost": "asecalc_ml.graph.padding",
    "asecalc_ml.golden": "asecalc_ml.store.golden",
    "asecalc_ml.histogram": "asecalc_ml.statistics.histogram",
    "asecalc_ml.linear": "asecalc_ml.structure.rigid_motions",
    "asecalc_ml.lock": "asecalc_ml.files.folder_lock",
    "asecalc_ml.md_protocols.bond_watch": "asecalc_ml.md_protocols.watch.bond_watch",
    "asecalc_ml.md_protocols.campaign.executors": "asecalc_ml.jobs.executors",
    "asecalc_ml.md_protocols.campaign_state": "asecalc_ml.md_protocols.campaign.state",
    "asecalc_ml.md_protocols.checkpoint": "asecalc_ml.md_protocols.engine.checkpoint",
    "asecalc_ml.md_protocols.coordinate": "asecalc_ml.md_protocols.scan.coordinate",
    "asecalc_ml.md_protocols.coordinate_choice": "asecalc_ml.md_protocols.scan.coordinate_choice",
    "asecalc_ml.md_protocols.differences": "asecalc_ml.md_protocols.engine.differences",
    "asecalc_ml.md_protocols.langevin_npt": "asecalc_ml.md_protocols.integrators.langevin_npt",
    "asecalc_ml.md_protocols.launch": "asecalc_ml.md_protocols.engine.launch",
    "asecalc_ml.md_protocols.record": "asecalc_ml.md_protocols.engine.record",
    "asecalc_ml.md_protocols.resume": "asecalc_ml.md_protocols.engine.resume",
    "asecalc_ml.md_protocols.scan_plan": "asecalc_ml.md_protocols.scan.plan",
    "asecalc_ml.md_protocols.stages.scan": "asecalc_ml.md_protocols.scan.stage",
    "asecalc_ml.md_protocols.stages.transfer": "asecalc_ml.md_protocols.transfer.stage",
    "asecalc_ml.md_protocols.stages.watches": "asecalc_ml.md_protocols.watch.watches",
    "asecalc_ml.md_protocols.stopping": "asecalc_ml.md_protocols.watch.stopping",
    "asecalc_ml.md_protocols.suspicions": "asecalc_ml.md_protocols.watch.suspicions",
    "asecalc_ml.md_protocols.temperature": "asecalc_ml.md_protocols.integrators.degrees_of_freedom",
    "asecalc_ml.md_protocols.thermostat_choice": "asecalc_ml.md_protocols.integrators.thermostat_choice",
    "asecalc_ml.md_protocols.transfer_help": "asecalc_ml.md_protocols.transfer.helpers",
    "asecalc_ml.md_protocols.transfer_part": "asecalc_ml.md_protocols.transfer.part",
    "asecalc_ml.md_protocols.transfer_plan": "asecalc_ml.md_protocols.transfer.plan",
    "asecalc_ml.md_protocols.transfer_runs": "asecalc_ml.md_protocols.transfer.runs",
    "asecalc_ml.model_file": "asecalc_ml.store.model_file",
    "asecalc_ml.nearest": "asecalc_ml.config.suggestions",
    "asecalc_ml.neighbors": "asecalc_ml.graph.neighbors",
    "asecalc_ml.neighbors.backends": "asecalc_ml.graph.neighbors.backends",
    "asecalc_ml.neighbors.enclosing": "asecalc_ml.graph.neighbors.enclosing_cell",
    "asecalc_ml.neighbors.pairs": "asecalc_ml.graph.neighbors.pairs",
    "asecalc_ml.neighbors.skin": "asecalc_ml.graph.neighbors.skin",
    "asecalc_ml.nested_options": "asecalc_ml.config.nested_options",
    "asecalc_ml.no_compiling": "asecalc_ml.model.compile.no_compiling",
    "asecalc_ml.other_units": "asecalc_ml.config.unit_hints",
    "asecalc_ml.package_cache": "asecalc_ml.model.compile.package_cache",
    "asecalc_ml.pair_classes": "asecalc_ml.structure.topology.pair_classes",
    "asecalc_ml.pair_modules": "asecalc_ml.model.pair_modules",
    "asecalc_ml.pair_potentials": "asecalc_ml.model.pair_potentials",
    "asecalc_ml.potential": "asecalc_ml.model.potential",
    "asecalc_ml.potentials.datasets.ani1": "asecalc_ml.potentials.datasets.readers.ani1",
    "asecalc_ml.potentials.datasets.ase_file": "asecalc_ml.potentials.datasets.readers.ase_file",
    "asecalc_ml.potentials.datasets.generate": "asecalc_ml.potentials.datasets.generation.generate",
    "asecalc_ml.potentials.datasets.label": "asecalc_ml.potentials.datasets.generation.label",
    "asecalc_ml.potentials.datasets.mlearn": "asecalc_ml.potentials.datasets.readers.mlearn",
    "asecalc_ml.potentials.datasets.neuralil_json": "asecalc_ml.potentials.datasets.readers.neuralil_json",
    "asecalc_ml.potentials.datasets.rmd17": "asecalc_ml.potentials.datasets.readers.rmd17",
    "asecalc_ml.potentials.datasets.sampling": "asecalc_ml.potentials.datasets.generation.sampling",
    "asecalc_ml.potentials.elements": "asecalc_ml.potentials.shared.elements",
    "asecalc_ml.potentials.geometric": "asecalc_ml.potentials.shared.geometric",
    "asecalc_ml.potentials.mpnn.recurrent": "asecalc_ml.potentials.mpnn.layers",
    "asecalc_ml.potentials.radial_basis": "asecalc_ml.potentials.shared.radial_basis",
    "asecalc_ml.potentials.shared_pass": "asecalc_ml.potentials.shared.layers",
    "asecalc_ml.potentials.training.averaging": "asecalc_ml.potentials.training.optimization.exponential_average",
    "asecalc_ml.potentials.training.batches": "asecalc_ml.potentials.training.frames.batches",
    "asecalc_ml.potentials.training.checkpoints": "asecalc_ml.potentials.training.trainer",
    "asecalc_ml.potentials.training.compiled": "asecalc_ml.potentials.training.optimization.whole_step",
    "asecalc_ml.potentials.training.data": "asecalc_ml.potentials.training.frames.training_data",
    "asecalc_ml.potentials.training.domain": "asecalc_ml.potentials.training.frames.domain",
    "asecalc_ml.potentials.training.groups": "asecalc_ml.potentials.training.frames.groups",
    "asecalc_ml.potentials.training.lagging_average": "asecalc_ml.potentials.training.optimization.lagging_average",
    "asecalc_ml.potentials.training.lineage": "asecalc_ml.potentials.training.frames.lineage",
    "asecalc_ml.potentials.training.scaling": "asecalc_ml.potentials.training.frames.scaling",
    "asecalc_ml.potentials.training.schedules": "asecalc_ml.potentials.training.optimization.schedules",
    "asecalc_ml.potentials.training.split": "asecalc_ml.potentials.training.frames.split",
    "asecalc_ml.potentials.training.terms": "asecalc_ml.potentials.training.frames.training_data",
    "asecalc_ml.progress": "asecalc_ml.terminal.progress",
    "asecalc_ml.quantities": "asecalc_ml.config.quantities",
    "asecalc_ml.reading": "asecalc_ml.files.reading",
    "asecalc_ml.registry": "asecalc_ml.store.registry",
    "asecalc_ml.rounding": "asecalc_ml.model.rounding",
    "asecalc_ml.rundir": "asecalc_ml.runs",
    "asecalc_ml.rundir.contents": "asecalc_ml.runs.contents",
    "asecalc_ml.rundir.further": "asecalc_ml.runs.further_files",
    "asecalc_ml.rundir.layout": "asecalc_ml.runs.layout",
    "asecalc_ml.rundir.plan": "asecalc_ml.runs.plan",
    "asecalc_ml.rundir.production": "asecalc_ml.runs.production",
    "asecalc_ml.rundir.reader": "asecalc_ml.runs.reader",
    "asecalc_ml.rundir.vacancy": "asecalc_ml.runs.vacancy",
    "asecalc_ml.rundir.writer": "asecalc_ml.runs.writer",
    "asecalc_ml.seen_frames": "asecalc_ml.store.seen_frames",
    "asecalc_ml.segments": "asecalc_ml.graph.segments",
    "asecalc_ml.selection": "asecalc_ml.structure.topology.patterns",
    "asecalc_ml.stored_model": "asecalc_ml.store.stored_model",
    "asecalc_ml.structure.elements": "asecalc_ml.structure.element_checks",
    "asecalc_ml.structure.equivalence": "asecalc_ml.structure.topology.equivalence",
    "asecalc_ml.structure.extended_xyz": "asecalc_ml.structure.files.extended_xyz",
    "asecalc_ml.structure.frames": "asecalc_ml.structure.files.lazy_frames",
    "asecalc_ml.structure.left_out": "asecalc_ml.structure.files.further_structure",
    "asecalc_ml.structure.reading": "asecalc_ml.structure.files.structure_file",
    "asecalc_ml.structure.stated_state": "asecalc_ml.structure.files.stated_charge_and_spin",
    "asecalc_ml.structure.stored_constraints": "asecalc_ml.structure.files.stored_constraints",
    "asecalc_ml.structure.whole": "asecalc_ml.structure.rigid_motions",
    "asecalc_ml.structure.xyz_file": "asecalc_ml.structure.files.xyz_file",
    "asecalc_ml.structures": "asecalc_ml.structure.loading",
    "asecalc_ml.synonyms": "asecalc_ml.config.synonyms",
    "asecalc_ml.terminal.tracking": "asecalc_ml.tracking",
    "asecalc_ml.topology": "asecalc_ml.structure.topology.bonds",
    "asecalc_ml.trajectories": "asecalc_ml.runs.trajectories",
    "asecalc_ml.trajectories.ase_format": "asecalc_ml.runs.trajectories.ase_format",
    "asecalc_ml.trajectories.extxyz": "asecalc_ml.runs.trajectories.extxyz_writer",
    "asecalc_ml.trajectories.extxyz_file": "asecalc_ml.runs.trajectories.extxyz_reader",
    "asecalc_ml.trajectories.h5md": "asecalc_ml.runs.trajectories.h5md_writer",
    "asecalc_ml.trajectories.h5md_file": "asecalc_ml.runs.trajectories.h5md_reader",
    "asecalc_ml.trajectories.hdf5": "asecalc_ml.runs.trajectories.hdf5",
    "asecalc_ml.trajectories.reader": "asecalc_ml.runs.trajectories.reader",
    "asecalc_ml.trajectories.traj": "asecalc_ml.runs.trajectories.traj_writer",
    "asecalc_ml.trajectories.traj_file": "asecalc_ml.runs.trajectories.traj_reader",
    "asecalc_ml.trajectories.writer": "asecalc_ml.runs.trajectories.writer",
    "asecalc_ml.triplets": "asecalc_ml.graph.triplets",
    "asecalc_ml.universe": "asecalc_ml.runs.universe",
    "asecalc_ml.user_cache": "asecalc_ml.files.user_cache",
    "asecalc_ml.xtb": "asecalc_ml.calculators.xtb",
}


def current_name(place: str) -> str:
    """Return a place "module:Class" with the present name of its module.

    Files of runs store the class of a calculator in this form; a file of an earlier version names the
    module as it was called then.
    """
    module, colon, name = place.partition(":")
    return f"{MOVED.get(module, module)}{colon}{name}"


class MovedFinder(MetaPathFinder, Loader):
    """Answers for the former names in ``MOVED``, and for nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Module spec of a former name, None for any other module."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """A plain module, which ``exec_module`` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module at its new place under the former name."""
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = import_module(new)

    def get_code(self, fullname: str) -> CodeType | None:
        """Code of the module at its new place, which ``python -m`` with a former name runs."""
        spec = find_spec(MOVED[fullname])
        if spec is None or not isinstance(spec.loader, InspectLoader):
            raise ImportError(f"no code of {MOVED[fullname]}", name=fullname)
        return spec.loader.get_code(spec.name)


def install() -> None:
    """Put the finder in front of all others, once.

    It answers before the folder of a moved package is searched, which would give a second copy of a module.
    """
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedFinder())
