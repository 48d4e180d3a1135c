"""Data: the sets that are shipped, local copies of public ones, and splits that do not leak."""

from interp.data.loaders import data_folder, load_fixture
from interp.data.splits import check_leakage, split

__all__ = ["check_leakage", "data_folder", "load_fixture", "split"]
