"""torch-geometric's convolutions on our edges."""

TORCH_GEOMETRIC = (
    "M. Fey, J. E. Lenssen, Fast Graph Representation Learning with PyTorch Geometric, arXiv:1903.02428"
)


class OwnEdges:
    """Mixed into one of torch-geometric's convolutions: its parameters are kept, its scatter is not.

    A class that inherits this and a convolution has its own ``forward``, with rows taken and summed as
    in :mod:`asecalc_ml.graph.segments`: upstream's ``propagate`` reads sizes on the host and sums by
    ``index_add``. Our row 0 of ``edge_index`` is the atom that collects messages; upstream's is row 1.
    """

    def _set_jittable_templates(self, raise_on_error: bool = False) -> None:
        """Upstream would write its ``propagate``, which nothing here calls, to a file that stays in /tmp."""
