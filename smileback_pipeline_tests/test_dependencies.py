"""What the project depends on: declared where it is used, explained in docs/dependencies.md, locked by hashes."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from smileback_pipeline.settings import PROJECT_ROOT

PROJECT = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {
    "production": list(map(Requirement, PROJECT["dependencies"])),
    **{extra: list(map(Requirement, named)) for extra, named in PROJECT["optional-dependencies"].items()},
}
NAMES = {group: {requirement.name for requirement in requirements} for group, requirements in DECLARED.items()}
LOCK = (PROJECT_ROOT / "requirements.lock").read_text()
OURS = {"smileback_pipeline", "smileback_pipeline_tests", "benchmarks"}
DISTRIBUTIONS = importlib.metadata.packages_distributions()


def imported(file: Path) -> Iterator[str]:
    """The distributions that a file imports from, at its top or within a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        else:
            continue
        for module in {module.partition(".")[0] for module in modules} - OURS - sys.stdlib_module_names:
            yield canonicalize_name(DISTRIBUTIONS[module][0])


@pytest.mark.parametrize(
    ("folder", "groups"),
    [
        ("smileback_pipeline", ("production", "keyring")),
        ("smileback_pipeline/sandbox", ("production", "sandbox")),
        ("smileback_pipeline_tests", tuple(NAMES)),
        # Not those of the peers, which are installed in environments of their own.
        ("benchmarks", tuple(NAMES)),
    ],
)
def test_what_the_code_imports_is_declared_and_not_left_to_what_others_bring(
    folder: str, groups: tuple[str, ...]
) -> None:
    allowed = set().union(*(NAMES[group] for group in groups))
    undeclared = {
        (str(file.relative_to(PROJECT_ROOT)), name)
        for file in (PROJECT_ROOT / folder).rglob("*.py")
        if not (folder == "smileback_pipeline" and "sandbox" in file.parts) and "peers" not in file.parts
        for name in imported(file)
        if name not in allowed
    }
    assert not undeclared


def test_each_direct_dependency_has_its_reason_in_the_document_and_nothing_else_has() -> None:
    document = (PROJECT_ROOT / "docs" / "dependencies.md").read_text()
    explained = {
        re.sub("Extra |`", "", section.splitlines()[0]).lower(): set(
            re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)
        )
        for section in document.split("\n## ")
        if "\n| package |" in section
    }
    assert explained == NAMES


def test_the_lock_admits_only_files_that_are_known_by_their_hash_and_names_no_place_to_get_them_from() -> None:
    assert not re.search(r"://|^-|--(?!hash=)| @ ", LOCK, re.MULTILINE)
    packages = re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)[1:]
    assert len(packages) > 100
    for package in packages:
        assert re.match(r"\S+==\S+( ; .*)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+", package), package[:200]


def test_what_is_locked_is_what_is_declared() -> None:
    locked = dict(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==(\S+)(?: ; .*)? \\$", LOCK, re.MULTILINE))
    for requirement in (requirement for group in DECLARED.values() for requirement in group):
        assert requirement.specifier.contains(locked[requirement.name]), f"make lock: {requirement}"
    direct = {
        re.split(r"==|\[", package)[0]
        for package in re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)
        if "smileback-pipeline (pyproject.toml)" in package
    }
    assert direct == set().union(*NAMES.values()), "make lock"
