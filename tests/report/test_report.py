"""The page of a run, whole or partial: self-contained, and honest about what is missing."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from r1kit.errors import DataError
from r1kit.report import ReportConfig, write_report
from r1kit.report.data import counts_html, data_section
from r1kit.report.reader import RunData, StageData, read_run
from tests.report.synthetic import make_run, write_manifest

_VOID = {"meta", "link", "br", "img", "input"}


class TagChecker(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(run_dir, config=None):
    page = write_report(run_dir, config).read_text(encoding="utf-8")
    checker = TagChecker()
    checker.feed(page)
    assert checker.open == []
    return page


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "tiny")


def section(page, anchor):
    return re.search(rf'<section id="{anchor}">.*?</section>', page, re.DOTALL).group()


def test_a_whole_run_has_every_section(whole_run):
    page = page_of(whole_run)
    anchors = re.findall(r'<section id="([\w-]+)">', page)
    expected = [
        "route",
        "table",
        "differences",
        "curves",
        "alarm",
        "data",
        "transcripts",
        "times",
        "manifests",
    ]
    assert anchors == expected
    assert [a for a in re.findall(r'href="#([\w-]+)"', page)] == anchors


def test_the_page_loads_nothing(whole_run):
    page = page_of(whole_run)
    assert not re.search(r"<(?:script|link|img|iframe)\b|@import|url\((?!#)|src=", page)
    assert not re.search(r"https?://", page)


def test_the_flow_shows_this_run_s_numbers_and_what_it_lacks(whole_run):
    flow = section(page_of(whole_run), "route")
    summary = json.loads((whole_run / "eval" / "zero" / "summary.json").read_text(encoding="utf-8"))
    assert f"pass@1 {summary['reasoning']['pass@1']['value']:.2f}" in flow
    assert "1,234 examples" in flow
    assert re.search(r'class="box absent".*distill', flow)


def test_texts_of_models_are_escaped_and_marked_right_or_wrong(whole_run):
    transcripts = section(page_of(whole_run), "transcripts")
    assert "multiply to 27. &lt;Which&gt;?" in transcripts
    assert "✓ right" in transcripts
    assert "✗ wrong" in transcripts
    # two families in two languages, and three kinds of general prompts
    assert transcripts.count("<details") == 4 + 3


def test_the_paper_s_numbers_are_there_and_labelled(whole_run):
    table = section(page_of(whole_run), "table")
    paper = table[table.index("The paper's own table") :]
    assert "not of this run" in paper
    assert "<th>AIME 2024, pass@1</th><td>77.9</td><td>59.0</td>" in paper


def test_controls_are_compared_with_the_base_on_the_same_problems(whole_run):
    rows = section(page_of(whole_run), "differences")
    assert "zero − base" in rows
    assert "zero_random − base" in rows
    assert "r1 − zero" in rows


def test_reflection_is_read_from_the_kept_rollouts(whole_run):
    assert "Tries in the search family" in section(page_of(whole_run), "curves")


def test_a_run_with_one_stage_leaves_the_rest_out(tmp_path):
    page = page_of(make_run(tmp_path / "run", stages=("zero",)))
    anchors = re.findall(r'<section id="([\w-]+)">', page)
    assert anchors == ["table", "curves", "alarm", "transcripts", "times", "manifests"]
    assert "The paper's own table" not in page


def test_a_run_without_evaluations_says_so(tmp_path):
    run = make_run(tmp_path / "run", stages=("zero",))
    shutil.rmtree(run / "eval")
    assert "No stage of this run has been evaluated yet" in page_of(run)


def test_evaluations_alone_make_a_page_too(tmp_path):
    run = make_run(tmp_path / "run", stages=("base",))
    page = page_of(run, ReportConfig(title="Mine & yours"))
    assert "<h1>Mine &amp; yours</h1>" in page


def test_the_run_s_own_record_names_recipe_and_seed(tmp_path):
    run = make_run(tmp_path / "run", stages=("base",))
    (run / "run.json").write_text(json.dumps({"recipe": "/a/tiny.toml", "seed": 42}), encoding="utf-8")
    page = page_of(run)
    assert "<dt>recipe</dt><dd>tiny.toml</dd>" in page
    assert "<dt>seed</dt><dd>42</dd>" in page


def test_what_is_built_in_is_said_of_tinyworld_only(tmp_path):
    run = make_run(tmp_path / "run", stages=("base",))
    assert "What is built in" not in page_of(run)
    path = run / "eval" / "base" / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**summary, "model": "/somewhere/tinyworld/base"}), encoding="utf-8")
    assert "What is built in" in page_of(run)


def test_a_folder_without_stages_or_with_a_broken_summary_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="no such run folder"):
        write_report(tmp_path / "none")
    with pytest.raises(DataError, match="no finished stage"):
        write_report(tmp_path)
    run = make_run(tmp_path / "run", stages=("base",))
    (run / "eval" / "base" / "summary.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"summary\.json"):
        write_report(run)


def test_counts_of_any_shape_become_tables():
    html = counts_html(
        {"kept": 7, "by": {"a": {"n": 1, "x": 2}, "b": {"n": 3}}, "flat": {"p": 0.25}, "none": {}}
    )
    assert "<th>kept</th><td>7</td>" in html
    assert "<tr><th>b</th><td>3</td><td>–</td></tr>" in html
    assert "<th>p</th><td>0.25</td>" in html


def test_a_number_for_every_problem_is_summed_up():
    html = counts_html({"pass_rates": {f"p{i}": i / 100 for i in range(101)}})
    assert "<th>how many</th><td>101</td>" in html
    assert "<th>mean</th><td>0.5</td>" in html
    assert "<th>highest quarter from</th><td>0.75</td>" in html
    assert "p99" not in html


def test_what_judges_were_asked_is_shown_where_there_were_any(tmp_path):
    run = make_run(tmp_path / "run")
    assert "<h2>Judges</h2>" not in page_of(run)
    path = run / "dev2" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    counts = {"asked": 123, "cached": 45, "retried": 6, "failed": 7, "unparsed": 8, "missing": 9}
    manifest["metrics"] = manifest.get("metrics", {}) | {f"judge/{name}": n for name, n in counts.items()}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    section = page_of(run).split("<h2>Judges</h2>")[1].split("</section>")[0]
    assert re.findall(r"<td>(\d+)</td>", section) == ["123", "45", "6", "7", "8", "0", "9"]
    assert section.count("<tr>") == 2  # the head, and the one stage that had a judge


@pytest.mark.parametrize(("reasoning", "shown"), [({"math": {"sampled": 8, "kept": 5}}, True), ({}, False)])
def test_the_papers_set_stands_beside_data_with_reasoning_alone(reasoning, shown):
    """Of a stage of general data, as the draft's, there is no like in the paper."""
    stage = StageData(
        "drafts",
        Path("drafts"),
        {"kind": "rejection"},
        counts={"domains": {"general": {"samples": 900}}, "reasoning": reasoning},
    )
    section = data_section(RunData(Path(), {"drafts": stage}, {}))
    assert "900" in section
    assert ("The paper's set" in section) == shown


def test_the_draft_stands_between_dev2_and_the_filter_that_it_serves(tmp_path):
    run_dir = make_run(tmp_path)
    for name in ("draft", "quality", "drafts"):
        (run_dir / name).mkdir()
        write_manifest(run_dir / name, name, "sft", 0, {})
    names = list(read_run(run_dir).stages)
    first = names.index("dev2")
    assert names[first : first + 4] == ["dev2", "drafts", "draft", "quality"]
