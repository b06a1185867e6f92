"""Every mutant still fits the code it mutates, and names a test that exists."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exporter.release.guards import GUARDS
from tests.mutants.run import ROOT, Mutant, apply_change, read_mutants

MUTANTS = read_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code_and_names_its_test(mutant: Mutant, tmp_path: Path) -> None:
    file, _, function = mutant.dies.partition("::")

    for change in mutant.changes:
        target = tmp_path / change.file
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / change.file, target)
        apply_change(tmp_path, change)
    assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8")


def test_every_guard_has_a_mutant() -> None:
    taken = {change.text for mutant in MUTANTS for change in mutant.changes}

    assert [name for name in GUARDS if not any(f'"{name}": Guard(' in text for text in taken)] == []
