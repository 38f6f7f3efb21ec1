"""The pages of figures are those that benchmarks/report.py writes from the results and notes that are committed."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import report

    yield report
    for name in ("report", "common", "summary_tables"):
        sys.modules.pop(name, None)


def test_pages_are_up_to_date(report):
    for path, text in report.pages().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)}: run python benchmarks/report.py"


def test_every_result_and_note_has_a_section_with_a_conclusion_and_a_table(report):
    summaries = {**report.QUALITY, **report.SPEED}
    results = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json") if not path.stem.startswith("card-")}
    notes = {path.stem for path in (ROOT / "benchmarks" / "notes").glob("*.md")}
    assert results == notes <= set(summaries)
    page = report.pages()[report.PAGE]
    for name in results:
        section = page.partition(f"### {summaries[name].title}\n")[2].partition("\n###")[0]
        assert 3 <= section.count("\n|") <= 14, name
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()


def test_links_lead_somewhere(report):
    for path, text in report.pages().items():
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
