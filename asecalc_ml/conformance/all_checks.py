"""The list of checks. Another one is a function that yields what it measured, and a line here."""

from asecalc_ml.conformance.checks import (
    batch,
    continuity,
    derivatives,
    dynamics,
    few_atoms,
    periodic,
    precision,
    resources,
    state,
    symmetries,
)
from asecalc_ml.conformance.result import Check

CHECKS: tuple[Check, ...] = (
    Check("rounding", "the energy is as smooth as its precision allows", precision.rounding),
    Check("forces", "forces are minus the slope of the energy", derivatives.forces),
    Check("stress of bulk", "stress is the slope under strain over the volume", derivatives.stress_of_bulk),
    Check("stress of slab", "the same with two periodic directions", derivatives.stress_of_slab),
    Check("hessian", "forces have a symmetric Hessian, as the slopes of an energy do", derivatives.hessian),
    Check("rotation", "energy stays, forces and stress turn", symmetries.rotation),
    Check("reflection", "a mirror image has mirrored forces", symmetries.reflection),
    Check("translation", "nothing changes 50 Å from the origin", symmetries.translation),
    Check("permutation", "the order of atoms does not matter", symmetries.permutation),
    Check("net force", "forces sum to zero", symmetries.net_force),
    Check("net torque", "forces do not turn a molecule", symmetries.net_torque),
    Check(
        "lattice translation", "cell vectors added to all atoms change nothing", periodic.lattice_translation
    ),
    Check("wrapped", "wrapped is unwrapped", periodic.wrapped),
    Check("supercell", "twice the cell has twice the energy: no image is missing", periodic.supercell),
    Check(
        "stresses of atoms", "they sum to the stress, in any cell of a crystal", periodic.stresses_of_atoms
    ),
    Check("slab height", "a cell vector that is not periodic does not matter", periodic.slab_height),
    Check("isolated atom", "one atom has an energy and no force", few_atoms.isolated_atom),
    Check("isolated atom in a box", "nor does a large box change it", few_atoms.isolated_atom_in_a_box),
    Check("two atoms", "equal and opposite forces along the axis", few_atoms.two_atoms),
    Check("empty neighbor list", "atoms 100 Å apart are alone", few_atoms.empty_neighbor_list),
    Check("extensivity", "two molecules 100 Å apart are twice one", few_atoms.extensivity),
    Check("continuity", "no jump where an atom crosses the cutoff", continuity.continuity),
    Check("nothing stale", "every change of the structure is seen", state.nothing_stale),
    Check(
        "order of questions",
        "energy and forces do not depend on what was asked first",
        state.order_of_questions,
    ),
    Check("determinism", "30 identical calls give the same bits", state.determinism),
    Check("plain atoms", "atoms.info may be empty", state.plain_atoms),
    Check("types", "results have ASE's types and shapes", state.types),
    Check("results are kept", "returned arrays belong to the caller", state.results_are_kept),
    Check("input untouched", "the structure comes back as it was", state.input_untouched),
    Check("process untouched", "default dtype, threads, environment are as before", state.process_untouched),
    Check("batch", "many at once are one by one", batch.batch),
    Check("NVE 0.1 fs", "the total energy does not drift", dynamics.drift_short_step),
    Check("NVE 0.5 fs", "the total energy does not drift", dynamics.drift_long_step),
    Check("NVE precision", "whether float32 is enough for dynamics", dynamics.precision_of_dynamics),
    Check("memory", "the process does not grow", resources.memory),
    Check("speed", "steps of dynamics a second", resources.speed),
)
