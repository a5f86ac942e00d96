"""Where answers go: to standard output, to a file that is written at the end, or to a file of results that grows by one line per study.

No file of the user's is overwritten, and no answer is lost: one that cannot be written is printed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from medgemma_app.cli.process import CLOSED
from medgemma_app.errors import MedGemmaError, OutputError
from medgemma_app.export import ending_of, plain, reason, render, table, write_whole
from medgemma_app.inputs.files import sha256_of
from medgemma_app.notices import NOTICE, printable, printable_value

if TYPE_CHECKING:
    from PIL.Image import Image

    from medgemma_app.model.generation import Generation
    from medgemma_app.tasks import Report


def form_of(path: Path | None, *, several: bool, as_json: bool) -> str:
    """How answers are written: "text", "json", "lines" (a file of results that grows), or an ending that export/ supports.

    The ending of a file's name decides; ``as_json`` applies to standard output, pipes and devices. Raises OutputError for an unknown
    or missing ending, and for one that cannot hold several studies.
    """
    if path is None or (path.exists() and not path.is_file()):
        return "json" if as_json else "text"
    ending = ".jsonl" if path.suffix.lower() == ".jsonl" else ending_of(path)
    if ending == ".jsonl" or (several and ending == ".json"):
        return "lines"
    if several and ending not in (".txt", ".csv", ".html"):
        raise OutputError(f"{path.name} can hold one report; for several studies give a name that ends in .jsonl, .csv, .html or .txt")
    return "json" if ending == ".json" else ending


class Answers:
    """Finished answers in one ``form``, on standard output or in ``path``. ``for_export`` are further arguments of ``export.render``.

    In HTML, ``several`` studies become an index at ``path`` and one page each in a folder beside it. Raises OutputError if that folder
    is not empty, or if there is no standard output.
    """

    def __init__(self, path: Path | None, form: str, *, several: bool = False, **for_export: Any) -> None:
        self._path, self._form, self._for_export = path, form, for_export
        self._kept: list[bytes] = []
        self._unseen: list[str] = []  # texts that are neither printed nor written yet, and must not be lost
        self._records: list[dict[str, Any]] = []
        self._pages: list[tuple[dict[str, Any], str | None, Image | None]] = []
        self._ascii = path is None and not utf8(sys.stdout)
        self._folder = path.with_suffix("") if path and several and form == ".html" else None
        if path is None and getattr(sys.stdout, "is_missing", False):
            raise OutputError(CLOSED)
        if self._folder is not None:
            _check_folder(self._folder)

    @property
    def can_stream(self) -> bool:
        return self._path is None and self._form == "text"

    def add(self, report: Report, printed: str, record: Mapping[str, Any]) -> None:
        """Adds a finished report, of which ``printed`` was already streamed to standard output, and its ``record`` in a run."""
        if self._form == "text":
            self._write(_unprinted(report.text, printed) + "\n")
        elif self._form == "json":
            self._write(json_line(report.to_dict(), ascii=self._ascii) + "\n")
        else:
            self._unseen.append(report.text)
            self._kept.append(render(record, self._form, images=report.images, source=report.source, **self._for_export))

    def add_study(self, name: str, result: Report | MedGemmaError, record: dict[str, Any]) -> OutputError | None:
        """Adds one of several studies. Returns the error if its page cannot be written; ``close`` then prints the answer."""
        answer = "" if isinstance(result, MedGemmaError) else f"# {name}\n{result.text}\n"
        record = {**record, "study": name}
        if self._form == "json":
            self._write(json_line(record, ascii=self._ascii) + "\n")
        elif self._form == ".csv":
            self._records.append(record)
            self._unseen += filter(None, [answer])
        elif self._form == ".html":
            self._unseen.append(answer)
            try:
                self._pages.append((record, *self._page(result)))
            except OutputError as error:
                self._pages.append(({"study": name, "error": str(error)}, None, None))
                return error
            self._unseen.pop()
        elif answer:
            self._write("\n" * bool(self._kept) + (f"# {name}\n{plain(record)}" if self._form == ".txt" else answer))
        return None

    def _page(self, result: Report | MedGemmaError) -> tuple[str | None, Image | None]:
        """Writes the page of one of several studies as soon as it is finished. Returns its address and its picture."""
        if isinstance(result, MedGemmaError) or self._folder is None:
            return None, None
        page = self._folder / f"{len(self._pages) + 1:03}.html"
        if page.exists():
            raise OutputError(f"{self._folder.name}/{page.name} appeared during the run and is not replaced; move it away, and run again")
        write_whole(page, render(result.to_dict(), ".html", images=result.images, source=result.source))
        return f"{self._folder.name}/{page.name}", result.images[0][1] if result.images else None

    def add_partial(self, partial: Generation, printed: str) -> None:
        """Prints the part that was generated before the user stopped; files hold finished reports only."""
        record = {"text": partial.text, "thought": partial.thought, "valid": False, "finish_reason": partial.finish_reason}
        rest = printable(_unprinted(partial.text.strip(), printed))
        print(json_line(record, ascii=self._ascii) if self._form == "json" else rest, flush=True)

    def close(self) -> None:
        """Writes the file, and prints every answer that is not in a file."""
        try:
            if self._records:
                self._kept.append(table(self._records).encode())
            if self._pages:
                from medgemma_app.export.html import index

                self._kept.append(index(self._pages).encode(errors="replace"))
            if self._path is not None and self._kept:
                write_whole(self._path, b"".join(self._kept))
                if not self._pages:  # a page that could not be written is among the unseen texts
                    self._unseen.clear()
        finally:
            if self._folder is not None:
                with suppress(OSError):  # only an empty folder is removed; it would stop the next attempt
                    self._folder.rmdir()
            if self._unseen:
                print(printable("\n\n".join(text.strip("\n") for text in self._unseen)), flush=True)

    def _write(self, text: str) -> None:
        text = printable(text)
        self._kept.append(text.encode())
        if self._path is None:
            print(text, end="", flush=True)
        else:
            self._unseen.append(text)


def _check_folder(folder: Path) -> None:
    """Makes the folder for pages. An empty one may be left from a run that was cancelled before its first page."""
    try:
        folder.mkdir(exist_ok=True)
        if not any(folder.iterdir()):
            return
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder.name} for pages: {reason(error)}; choose another name") from error
    raise OutputError(f"the pages would go into the folder {folder.name}, which is not empty; move it away, or choose another name")


def _unprinted(text: str, printed: str) -> str:
    return text[len(printed) :] if text.startswith(printed) else text if not printed else ""


def utf8(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def json_line(record: Mapping[str, Any], *, ascii: bool = False) -> str:
    """A record as one line of JSON, with the notice."""
    return json.dumps(printable_value({"notice": NOTICE, **record}), ensure_ascii=ascii)


def check_output(path: Path, option: str, inputs: Sequence[str | Path], *, force: bool, resumable: bool = False) -> None:
    """Raises OutputError for a file that cannot or must not be written, before any time is spent on the answer.

    ``inputs`` are the files that the run uses, and folders whose files it reads; they are refused under any name or link.
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


def _files(inputs: Iterable[str | Path]) -> Iterator[os.stat_result]:
    for path in map(Path, inputs):
        with suppress(OSError, ValueError):  # what cannot be found is reported when it is read
            yield path.stat()
            if path.is_dir():
                yield from (each.stat() for each in path.iterdir() if each.exists())


class Done(NamedTuple):
    """A study that is already in a file of results: the exit code of its result, and the hash of its inputs."""

    exit_code: int
    content: str | None


class Results:
    """The JSON Lines file ``path``, open for appending. It survives a crash at any time, and can be continued.

    ``run`` holds the options; a file made with other options is refused. ``fresh`` empties the file first. ``done`` maps the
    ``study_id`` of each study in the file to its result.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, fresh: bool = False) -> None:
        self._name, self._run = path.name, json.loads(json.dumps(run))
        self.done: dict[str, Done] = {}
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise OutputError(f"cannot write {path.name}: {reason(error)}") from error
        try:
            self._lock()
            if fresh:
                self._file.truncate(0)
            self._read()
        except OutputError:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"another run is writing {self._name}; wait for it, or choose another name") from error

    def _read(self) -> None:
        """Reads the results in the file. If a crash has cut the last line, that line is removed."""
        whole = self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            self._note(number, line)
            whole += len(line)
        self._file.truncate(whole)

    def _note(self, number: int, line: bytes) -> None:
        try:
            record = json.loads(line)
            study, run, done = record["study_id"], dict(record["run"]), Done(record["exit_code"], record["content"])
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(f"line {number} of {self._name} is not a result of this command; choose another name") from error
        changed = [name for name in self._run | run if self._run.get(name) != run.get(name)]
        if changed:
            others = {"kind": "by another command", "model": "with another model", "prompt": "with another prompt"}
            how = others.get(changed[0], f"with another value for --{changed[0].replace('_', '-')}")
            raise OutputError(f"{self._name} was made {how}; use the same options, choose another name, or start again with --force")
        self.done[study] = done

    def add(self, record: Mapping[str, Any]) -> None:
        """Appends one line, which is on the disk when this returns. An answer that cannot be written is printed."""
        try:
            self._file.write(json_line({**record, "run": self._run}).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            if "text" in record:
                print(printable(f"# {record['study']}\n{record['text']}"), flush=True)
            raise OutputError(f"cannot write {self._name}: {reason(error)}") from error

    def close(self) -> None:
        with suppress(OSError):  # a full disk has been reported already
            self._file.close()


def content_hash(path: str, part: int | None, others: Sequence[str] = ()) -> str | None:
    """SHA-256 of a study's inputs: a file or one line of it, or the files of a folder, and ``others``; None if they cannot be read."""
    try:
        digests = [_line_hashes(path, Path(path).stat().st_mtime_ns)[part - 1]] if part else _hashes(path)
        return hashlib.sha256("".join(chain(digests, *map(_hashes, others))).encode()).hexdigest()
    except (OSError, ValueError, IndexError):
        return None


def _hashes(path: str) -> Iterator[str]:
    """The hashes of a file, or of the files of a folder. A pipe is not read, since that would empty it."""
    given = Path(path)
    if not given.is_dir() and not given.is_file():
        raise OSError
    for file in sorted(given.iterdir()) if given.is_dir() else [given]:
        if file.is_file():
            with file.open("rb") as opened:
                yield sha256_of(opened)


@cache
def _line_hashes(path: str, _changed: int) -> list[str]:
    with open(path, "rb") as file:
        return [hashlib.sha256(line).hexdigest() for line in file if line.strip()]
