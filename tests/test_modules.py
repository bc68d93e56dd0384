"""Modules of two versions fit: during an upgrade a page may get each from another node."""

import re
from pathlib import Path

import pytest

from lab.previous import unpack
from lab.servers import ROOT

IMPORT = re.compile(r'^import \{([^}]+)\} from "\./([^"]+)";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:class|const|function) (\w+)", re.MULTILINE)
EVERYTHING = re.compile(r'^export \* from "\./([^"]+)";$', re.MULTILINE)


def exports(folder: Path, name: str) -> set[str]:
    """Return the names that a module exports."""
    text = (folder / name).read_text()
    handed_on = (exports(folder, other) for other in EVERYTHING.findall(text))
    return set(EXPORT.findall(text)).union(*handed_on)


def lacking(importers: Path, exporters: Path) -> list[str]:
    """Return what modules in one folder import in vain from those of the same name in another."""
    return [
        f"{module.name}: {name} of {source}"
        for module in importers.glob("*.js")
        for names, source in IMPORT.findall(module.read_text())
        if (exporters / source).exists()
        for name in re.split(r",\s*", names.strip())
        if name not in exports(exporters, source)
    ]


@pytest.mark.parametrize("newer", [True, False], ids=["new imports old", "old imports new"])
def test_modules_of_two_versions_fit_together(tmp_path: Path, newer: bool) -> None:
    versions = [ROOT / "static", unpack(tmp_path) / "static"]
    importers, exporters = versions if newer else reversed(versions)
    assert any(IMPORT.search(module.read_text()) for module in importers.glob("*.js"))
    assert lacking(importers, exporters) == []
