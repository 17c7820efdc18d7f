"""Compiling without the minute that it takes."""

from asecalc_ml.model.compile.package_cache import MANIFEST, PackageCache


def traced_in_place_of_compiled(monkeypatch) -> list:
    """Let traced graphs run where compiled ones would; shapes are added to the list that is returned."""
    shapes = []

    def build(self, program):
        shapes.append(program.shape)
        folder = self.folder(program.shape)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).write_text("{}")
        graph = program.trace(self.stored.model)
        return lambda tensors: graph(*tensors)

    monkeypatch.setattr(PackageCache, "build", build)
    monkeypatch.setattr(PackageCache, "load", lambda self, shape: None)
    return shapes
