"""The benches are run by hand, and so would break unseen when what they measure moves."""

import importlib
import pkgutil

import pytest

import bench


@pytest.mark.parametrize(
    "name", sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if m.name != "__main__")
)
def test_every_bench_finds_what_it_measures(name: str) -> None:
    importlib.import_module(f"bench.{name}")
