"""Many studies as HTML: an index, and a page each in a new folder beside it."""

from __future__ import annotations

import pytest
from commands import tree

from medgemma_app.cli import output
from medgemma_app.demo import draw_phantom
from medgemma_app.errors import OutputError
from medgemma_app.notices import say


@pytest.fixture
def other(tmp_path):
    draw_phantom(5)[0].save(tmp_path / "b.png")
    return tmp_path / "b.png"


def test_many_studies_are_an_index_and_a_page_each(medgemma, tmp_path, scan, other):
    (tmp_path / "c.png").write_text("no picture")
    result = medgemma("findings", scan, tmp_path / "c.png", other, "-o", tmp_path / "all.html")
    assert result.exit_code == 2
    index = (tmp_path / "all.html").read_text()
    assert 'href="all/001.html"' in index and 'href="all/003.html"' in index and index.count(">failed<") == 1
    assert "IMPRESSION" in (tmp_path / "all" / "001.html").read_text()
    assert sorted(page.name for page in (tmp_path / "all").iterdir()) == ["001.html", "003.html"]


@pytest.mark.parametrize("name", ["in", "in/ct", "earlier", "other.spelling", "file", "dangling"])
def test_pages_go_into_a_new_folder_only_so_that_no_input_and_no_file_of_the_user_is_in_the_way(medgemma, tmp_path, scan, name):
    """With --force too."""
    (tmp_path / "in" / "ct").mkdir(parents=True)
    draw_phantom(5)[0].save(tmp_path / "in" / "ct" / "a.png")
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "001.html").write_text("mine")
    (tmp_path / "other.spelling").symlink_to(tmp_path / "in")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()  # as a run leaves it that was cancelled before its first page
    before = tree(tmp_path)
    for more in ([], ["--force"]):
        result = medgemma("findings", scan, tmp_path / "in", "-o", tmp_path / f"{name}.html", *more)
        assert (result.exit_code, result.loads, "pages" in result.stderr) == (2, 0, True), result.stderr
    assert tree(tmp_path) == before
    assert medgemma("findings", scan, tmp_path / "in", "-o", tmp_path / "empty.html", "--max-tokens", "2").exit_code == 3


@pytest.mark.parametrize("fault", ["a page of the user's", "a full disk"])
def test_a_page_that_cannot_be_written_is_a_failed_study_whose_answer_is_printed(medgemma, monkeypatch, tmp_path, scan, other, fault):
    draw_phantom(7)[0].save(tmp_path / "c.png")
    whole = output.write_whole

    def full(path, content):
        if path.name == "002.html":
            raise OutputError("cannot write 002.html: No space left on device")
        whole(path, content)

    if fault == "a full disk":
        monkeypatch.setattr(output, "write_whole", full)
    else:  # who puts it there after the run has begun
        monkeypatch.setattr("medgemma_app.cli.batch.say", lambda line: (tmp_path / "all" / "002.html").write_text("mine") and say(line))
    result = medgemma("findings", scan, other, tmp_path / "c.png", "-o", tmp_path / "all.html")
    assert (result.exit_code, result.stderr.count("002.html")) == (2, 1)
    assert result.stderr.splitlines()[-1].endswith("; 1 could not be read or written")
    assert result.stdout == f"# b.png\n{draw_phantom(5)[1]}\n"
    index = (tmp_path / "all.html").read_text()
    assert 'href="all/001.html"' in index and 'href="all/003.html"' in index and index.count(">failed<") == 1
    assert "IMPRESSION" in (tmp_path / "all" / "003.html").read_text()
    assert fault == "a full disk" or (tmp_path / "all" / "002.html").read_text() == "mine"
