"""What trainings on a GPU are made from is what they are made from on a CPU."""

from tests.train.conftest import base_folder, base_ref, make_rows, make_snapshot, recipe, settings, snapshot, store

__all__ = ["base_folder", "base_ref", "make_rows", "make_snapshot", "recipe", "settings", "snapshot", "store"]
