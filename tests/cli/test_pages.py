"""Many studies as HTML: an index, and a page each in a folder beside it, where nothing of the user's is replaced or removed."""

from __future__ import annotations

from pathlib import Path

from dicoms import a_series
from typer.testing import CliRunner

from medgemma_app.cli import output
from medgemma_app.cli.app import app
from medgemma_app.demo import draw_phantom
from medgemma_app.errors import OutputError
from medgemma_app.notices import say


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pages_of_many_studies_are_replaced_by_force_only(medgemma, tmp_path, scan):
    draw_phantom(5)[0].save(tmp_path / "b.png")
    draw_phantom(7)[0].save(tmp_path / "c.png")
    assert medgemma("findings", scan, tmp_path / "b.png", tmp_path / "c.png", "-o", tmp_path / "all.html").exit_code == 0
    again = ["findings", scan, tmp_path / "b.png", "-o", tmp_path / "all.html"]
    assert medgemma(*again).exit_code == 2
    assert medgemma(*again, "--force").exit_code == 0
    assert sorted(page.name for page in (tmp_path / "all").iterdir()) == ["001.html", "002.html"]


def test_pages_never_go_into_a_folder_with_inputs_nor_over_files_of_the_user(medgemma, tmp_path, scan):
    """With --force too, which is not advised where it does not help."""
    folder = tmp_path / "in"
    (folder / "ct").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        draw_phantom(5)[0].save(folder / name)
    for name, content in {"in/003.html": "mine", "in.html": "mine", "001.html": "mine", "all": "mine"}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "1234.html").write_text("mine")
    (tmp_path / "links").mkdir()
    medgemma("findings", scan, folder / "a.png", "-o", tmp_path / "linked.html", "--max-tokens", "2")
    (tmp_path / "links" / "001.html").symlink_to(tmp_path / "linked" / "001.html")
    (tmp_path / "other.spelling").symlink_to(folder)
    a_series(tmp_path / "in" / "ct", 2)
    before = tree(tmp_path)
    for name, words in {
        "in/ct": "ct, which holds files that the command uses",
        "other.spelling": "other.spelling, which holds files that the command uses",
        "in": "in, which holds files that the command uses",
        "notes": "notes/1234.html is in the way",
        "links": "links/001.html is in the way",
        "all": "that is a file",
    }.items():
        for more in ([], ["--force"]):
            result = medgemma("findings", folder / "a.png", folder / "ct", "-o", tmp_path / f"{name}.html", *more)
            assert (result.exit_code, words in result.stderr, "--force" in result.stderr) == (2, True, False), result.stderr
    assert tree(tmp_path) == before


def test_a_page_that_the_user_puts_there_during_the_run_is_kept(medgemma, monkeypatch, tmp_path, scan):
    draw_phantom(5)[0].save(tmp_path / "b.png")
    (tmp_path / "all").mkdir()
    for mine in ("001.html", "003.html"):
        with monkeypatch.context() as patched:
            put = (tmp_path / "all" / mine).write_text
            patched.setattr("medgemma_app.cli.batch.say", lambda line, put=put: put("mine") and say(line))
            result = medgemma("findings", scan, tmp_path / "b.png", "-o", tmp_path / "all.html", "--force")
        assert (result.exit_code, f"all/{mine} is in the way" in result.stderr) == (2, True)
        if mine == "001.html":  # its study failed, the other one has a page
            assert result.stdout.startswith("# scan.png\n") and "# b.png" not in result.stdout
            assert result.stderr.splitlines()[-1].endswith("; 1 could not be read or written")
            index = (tmp_path / "all.html").read_text()
            assert ('href="all/001.html"' in index, 'href="all/002.html"' in index, index.count(">failed<")) == (False, True, 1)
            assert "IMPRESSION" in (tmp_path / "all" / "002.html").read_text()
        assert (tmp_path / "all" / mine).read_text() == "mine"
        (tmp_path / "all" / mine).unlink()


def test_pages_of_an_earlier_run_go_only_when_the_new_index_is_written(medgemma, monkeypatch, tmp_path, scan):
    draw_phantom(5)[0].save(tmp_path / "b.png")
    draw_phantom(7)[0].save(tmp_path / "c.png")
    medgemma("findings", scan, tmp_path / "b.png", tmp_path / "c.png", "-o", tmp_path / "all.html")
    again = ["findings", scan, tmp_path / "b.png", "-o", tmp_path / "all.html", "--force"]
    whole = output.write_whole

    def full(path, content):
        if path.name == "all.html":
            raise OutputError("cannot write it: No space left on device")
        whole(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(output, "write_whole", full)
        assert medgemma(*again).exit_code == 2
    assert (tmp_path / "all" / "003.html").exists()

    unlink = Path.unlink

    def refuse(path, **how):
        if path.name == "003.html":
            raise PermissionError(1, "Operation not permitted")
        unlink(path, **how)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        result = medgemma(*again)
    assert (result.exit_code, "cannot remove 003.html of an earlier run" in result.stderr) == (2, True)
    assert medgemma(*again).exit_code == 0
    assert sorted(page.name for page in (tmp_path / "all").iterdir()) == ["001.html", "002.html"]


def test_many_studies_in_html_are_an_index_and_a_page_each(tmp_path):
    for seed in (1, 2):
        draw_phantom(seed)[0].save(tmp_path / f"{seed}.png")
    (tmp_path / "3.png").write_text("no picture")
    names = [str(tmp_path / f"{number}.png") for number in (1, 2, 3)]
    result = CliRunner().invoke(app, ["findings", *names, "--model", "demo", "-o", str(tmp_path / "reports.html")])
    assert result.exit_code == 2
    index = (tmp_path / "reports.html").read_text()
    assert all(f'href="reports/00{number}.html"' in index for number in (1, 2))
    assert "3.png" in index
    assert "IMPRESSION" in (tmp_path / "reports" / "001.html").read_text()
    again = CliRunner().invoke(app, ["findings", *names, "--model", "demo", "-o", str(tmp_path / "reports.html")])
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)
