"""docs/guarantees.md names a test for each promise: they are there."""

import re
from pathlib import Path

import pytest

from smileback_pipeline.settings import PROJECT_ROOT

NAMED = re.findall(r"`(test_\w+\.py)::(\w+)`", (PROJECT_ROOT / "docs" / "guarantees.md").read_text())


def test_there_are_promises() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_a_named_test_exists(file: str, test: str) -> None:
    assert re.search(rf"^(def )?{test}(\(| =)", (Path(__file__).parent / file).read_text(), re.MULTILINE)
