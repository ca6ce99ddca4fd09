"""The analysts' guide answers what it asks, in queries that anybody can type."""

import re
from pathlib import Path

import pytest

from smileback_pipeline_tests.analysts_guide import GUIDE, answered, publish_sample, questions

REWRITE = "python -m smileback_pipeline_tests.analysts_guide"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_sample(tmp_path_factory.mktemp("sample"))


def test_the_guide_prints_the_answers_that_its_queries_give(published: Path) -> None:
    guide = GUIDE.read_text()
    assert answered(guide, published).splitlines() == guide.splitlines(), f"write them anew: {REWRITE}"


def test_every_question_is_one_short_query_without_a_join_and_has_an_answer() -> None:
    guide = GUIDE.read_text()
    assert len(questions(guide)) >= 12
    for sql in questions(guide):
        assert sql.count(";") == 1
        assert len(sql.splitlines()) <= 8, sql
        assert not re.search(r"\b(join|with)\b", sql), sql
        answer = guide.partition(sql)[2].removeprefix("```\n\n").partition("\n\n")[0]
        assert len(answer.splitlines()) > 2, f"{sql}\nhas no answer: {REWRITE}"
