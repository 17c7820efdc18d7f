"""The calculator in ASE's list of plugins, as ``ase info --plugins`` prints it.

ASE finds this module by its entry point in ``setup.cfg`` and loads it for every list of plugins, therefore it
imports no torch.
"""

try:
    from ase._4.plugins.plugin import CalculatorPlugin
except ImportError:  # ASE 3.28 has no plugins, and ASE 3.29 calls the interface experimental
    __ase_plugins__ = set()
else:
    __ase_plugins__ = {
        CalculatorPlugin(
            "asecalc-ml",
            citation="asecalc-ml models cite NAME lists the references of a model",
            implementation="asecalc_ml.MLCalculator",
        )
    }
