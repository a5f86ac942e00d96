"""Where answers go: to standard output at once, or to a file that is written at the end. No file of the user's is overwritten."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from medgemma_app.cli.streams import CLOSED
from medgemma_app.errors import MedGemmaError, OutputError
from medgemma_app.export import reason, write_whole
from medgemma_app.notices import NOTICE, printable, printable_value

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.model.generation import Generation
    from medgemma_app.tasks import Report


def form_of(path: Path | None, *, several: bool, as_json: bool) -> str:
    """How answers are written: "text", "json", "lines" (a file of results that grows), or an ending that export/ knows.

    The ending of a file's name decides; ``as_json`` counts for standard output, pipes and devices. Raises OutputError for an unknown
    or missing ending, and for one that cannot hold several studies.
    """
    if path is None or (path.exists() and not path.is_file()):
        return "json" if as_json else "text"
    from medgemma_app.export import ending_of

    ending = ".jsonl" if path.suffix.lower() == ".jsonl" else ending_of(path)
    if ending == ".jsonl" or (several and ending == ".json"):
        return "lines"
    if several and ending not in (".txt", ".csv", ".html"):
        raise OutputError(f"{path.name} can hold one report; for several studies give a name that ends in .jsonl, .csv, .html or .txt")
    return "json" if ending == ".json" else ending


class Answers:
    """Finished answers in one ``form``, on standard output or in ``path``. ``for_export`` are further arguments of ``export.render``."""

    def __init__(self, path: Path | None, form: str, **for_export: Any) -> None:
        self._path, self._form, self._for_export = path, form, for_export
        self._kept: list[bytes] = []
        self._unseen: list[str] = []  # texts that have not been printed or written yet; they took too long to be lost
        self._records: list[dict[str, Any]] = []
        self._pages: list[tuple[dict[str, Any], str | None, Image | None]] = []
        self._ascii = path is None and not utf8(sys.stdout)
        if path is None and getattr(sys.stdout, "is_missing", False):
            raise OutputError(CLOSED)

    @property
    def can_stream(self) -> bool:
        return self._path is None and self._form == "text"

    def add(self, report: Report, printed: str, record: Mapping[str, Any]) -> None:
        """A finished report, of which ``printed`` has been streamed to standard output already, and its ``record`` as one of a run."""
        if self._form == "text":
            self._write(_unprinted(report.text, printed) + "\n")
        elif self._form == "json":
            self._write(json_line(report.to_dict(), ascii=self._ascii) + "\n")
        else:
            self._export(report, record)

    def _export(self, report: Report, record: Mapping[str, Any]) -> None:
        from medgemma_app.export import render

        self._unseen.append(report.text)
        self._kept.append(render(record, self._form, images=report.images, source=report.source, **self._for_export))

    def add_study(self, name: str, result: Report | MedGemmaError, record: dict[str, Any]) -> OutputError | None:
        """One of several studies: a ``record``, or a report with a heading that tells it from the others.

        Returns the error where the page of this study cannot be written; the answer is then printed at the end.
        """
        if self._form == "json":
            self._write(json_line(record, ascii=self._ascii) + "\n")
            return None
        written = "" if isinstance(result, MedGemmaError) else f"# {name}\n{result.text}"
        record = {**record, "study": name}
        if self._form == ".csv":
            self._records.append(record)
            self._unseen += filter(None, [written])
        elif self._form == ".html":
            try:
                self._pages.append((record, *self._page(result)))
            except OutputError as error:
                self._unseen.append(written)
                self._pages.append(({"study": name, "error": str(error)}, None, None))
                return error
        elif written:
            from medgemma_app.export import plain

            said = f"# {name}\n{plain(record)}" if self._form == ".txt" else written + "\n"
            self._write("\n" if self._kept else "", said)
        return None

    def _page(self, result: Report | MedGemmaError) -> tuple[str | None, Image | None]:
        """Writes the page of one of several studies as soon as it is finished. Returns its address and its picture."""
        if isinstance(result, MedGemmaError) or self._path is None:
            return None, None
        from medgemma_app.export import render

        folder = self._path.with_suffix("")
        name = f"{len(self._pages) + 1:03}.html"
        content = render(result.to_dict(), ".html", images=result.images, source=result.source)
        try:
            folder.mkdir(exist_ok=True)
            _refuse_foreign(folder / name)
            write_whole(folder / name, content)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder.name}: {reason(error)}") from error
        finally:
            with suppress(OSError):  # only an empty folder is removed; it would stop the next attempt
                folder.rmdir()
        return f"{folder.name}/{name}", result.images[0][1] if result.images else None

    def _remove_old_pages(self) -> None:
        """Removes pages of an earlier run with more studies, which the new index does not list."""
        number, folder = len(self._pages) + 1, Path(self._path or "").with_suffix("")
        try:
            while (page := folder / f"{number:03}.html").is_file():
                _refuse_foreign(page)
                page.unlink()
                number += 1
        except OSError as error:
            raise OutputError(f"cannot remove {page.name} of an earlier run from {folder.name}: {reason(error)}") from error

    def add_partial(self, partial: Generation, printed: str) -> None:
        """Prints the part that was generated before the user stopped; files hold finished reports only."""
        record = {"text": partial.text, "thought": partial.thought, "valid": False, "finish_reason": partial.finish_reason}
        rest = printable(_unprinted(partial.text.strip(), printed))
        print(json_line(record, ascii=self._ascii) if self._form == "json" else rest, flush=True)

    def close(self) -> None:
        """Writes the file, and prints every answer that is not in a file."""
        try:
            self._write_file()
        finally:
            if self._unseen:
                print(printable("\n\n".join(self._unseen)), flush=True)

    def _write_file(self) -> None:
        if self._records:
            from medgemma_app.export import table

            self._kept.append(table(self._records).encode())
        if self._pages:
            from medgemma_app.export.html import index

            self._kept.append(index(self._pages).encode(errors="replace"))
        if self._path is not None and self._kept:
            write_whole(self._path, b"".join(self._kept))
        if self._pages:
            self._remove_old_pages()  # what is unseen has no page
        elif self._kept:
            self._unseen.clear()

    def _write(self, *pieces: str) -> None:
        text = printable("".join(pieces))
        self._kept.append(text.encode())
        if self._path is None:
            print(text, end="", flush=True)
        else:
            self._unseen.append(text.strip("\n"))


def _unprinted(text: str, printed: str) -> str:
    return text[len(printed) :] if text.startswith(printed) else text if not printed else ""


def utf8(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def json_line(record: Mapping[str, Any], *, ascii: bool = False) -> str:
    """A record as one line of JSON, with the notice."""
    return json.dumps(printable_value({"notice": NOTICE, **record}), ensure_ascii=ascii)


def check_output(path: Path, option: str, inputs: Sequence[str | Path], *, force: bool, resumable: bool = False) -> None:
    """Raises OutputError for a file that cannot or must not be written, before any time is spent on the answer.

    ``inputs`` are the files that the run uses, and folders whose files it reads: they are refused by whatever name or link.
    """
    if path.is_dir():
        raise OutputError(f"{option} {path.name} is a folder; give a file name")
    if not path.parent.is_dir():
        raise OutputError(f"{option}: there is no folder {str(path.parent)!r}; create it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{option} {path.name} cannot be written; choose another place")
    found = path.stat() if path.exists() else None
    same = found and any(os.path.samestat(found, each) for each in _files(inputs))
    if same or os.path.realpath(path) in map(os.path.realpath, inputs):
        raise OutputError(f"{option} {path.name} is one of the files that the command uses; choose another name")
    if found and found.st_size and stat.S_ISREG(found.st_mode) and not force:
        ways = "continue it with --resume, replace it with --force, or choose" if resumable else "replace it with --force, or choose"
        raise OutputError(f"{option} {path.name} exists already; {ways} another name")


def check_pages(path: Path, inputs: Sequence[str | Path], *, force: bool) -> None:
    """Raises OutputError where the pages of many studies, which go into a folder beside the index ``path``, would harm other files."""
    folder = path.with_suffix("")
    used = {place for each in map(Path, map(os.path.realpath, inputs)) for place in (each, *each.parents)}
    if folder.is_dir() and any(place.is_dir() and place.samefile(folder) for place in used):
        raise OutputError(f"the pages would go into {folder.name}, which holds files that the command uses; choose another name")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"the pages would go into a folder {folder.name}, but that is a file; choose another name")
    for page in folder.glob("[0-9][0-9][0-9]*.html"):
        _refuse_foreign(page)
    if not force:
        raise OutputError(f"the pages would go into {folder.name}, which exists already; replace them with --force, or choose another name")


def _refuse_foreign(page: Path) -> None:
    """Raises OutputError for a file that is not a page of this program, so that it is neither replaced nor removed."""
    from medgemma_app.export.html import is_page

    if page.is_symlink() or (page.exists() and not is_page(page)):
        where = f"{page.parent.name}/{page.name}"
        raise OutputError(f"{where} is in the way, and does not say that this program wrote it; move it, or choose another name")


def _files(inputs: Iterable[str | Path]) -> Iterator[os.stat_result]:
    for path in map(Path, inputs):
        with suppress(OSError, ValueError):  # what cannot be found is reported when it is read
            yield path.stat()
            if path.is_dir():
                yield from (each.stat() for each in path.iterdir() if each.exists())


def numbered(path: Path, count: int) -> list[Path]:
    """The names of ``count`` pictures: the one given, or several with a number each."""
    return [path] if count == 1 else [path.with_stem(f"{path.stem}-{number:03}") for number in range(1, count + 1)]


def save_pictures(path: Path, images: Sequence[Image], inputs: Sequence[str | Path], *, force: bool) -> None:
    """Writes what the model sees as PNG files."""
    names = numbered(path, len(images))
    for name in names:
        check_output(name, "--save-input", inputs, force=force)
    for name, image in zip(names, images, strict=True):
        image.save(file := io.BytesIO(), format="PNG")
        write_whole(name, file.getvalue())
