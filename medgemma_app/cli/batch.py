"""One run of a command over one or many studies: inputs are read ahead, the model is loaded once, every report is written."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medgemma_app.cli.options import DEFAULT_MODEL, RunOptions
from medgemma_app.cli.output import Answers, check_output, check_pages, form_of
from medgemma_app.cli.signals import at_once, interruptible
from medgemma_app.cli.terminal import Progress, StreamPrinter, Tally, counted, say_issues, say_pictures, say_timing, severities
from medgemma_app.errors import MedGemmaError, OptionError
from medgemma_app.export import check_applies, study_names
from medgemma_app.model.generation import GenerationCancelled, GenerationError
from medgemma_app.notices import DEMO_NOTICE, NOTICE, say, verdict

if TYPE_CHECKING:
    from medgemma_app.inputs.studies import StudyList, StudySource
    from medgemma_app.model.generation import Model
    from medgemma_app.tasks import Report, Task

    Make = Callable[[Model], Task]  # an input that has been read; the model is needed to count its tokens
    Read = Callable[[StudySource], Make]
    Put = Callable[[StudySource, Report | MedGemmaError], MedGemmaError | None]  # the error that kept it from being written

VALIDATION_FAILED = 3
FROM_BEST_TO_WORST = (0, VALIDATION_FAILED, 2, 1)
HEAD_START = 0.3  # seconds for reading the input before the model is loaded, in which most input errors are found
READ_AHEAD = 16  # inputs that are read before their turn
# The options that a result depends on; the others only decide how it is computed or shown.
DECISIVE = ("revision", "adapter", "max_tokens", "temperature", "top_k", "top_p", "seed", "repetition_penalty", "retries", "strict")


class Run:
    """The options of a run, which are checked before any file is read, and the state of the run."""

    def __init__(self, kind: str, settings: RunOptions, *, prompt: str | None = None) -> None:
        self.kind, self.settings = kind, settings
        self.options, self.endpoint = settings.generation(), settings.server()
        self.model_name = settings.model or (None if self.endpoint else DEFAULT_MODEL)
        # Files and folders that the run reads besides its inputs.
        self.used = [name for name in (prompt, settings.model, settings.adapter, settings.api_key_file) if name and name != "demo"]
        self._model: Model | None = None
        self._codes: list[int] = []
        self._written = 0  # studies of this run
        self._found: list[str] = []  # severities
        self._keys: dict[StudySource, str] = {}
        self._names: dict[StudySource, str] = {}  # that tell the studies of this run apart
        self._inputs: Sequence[str] = ()
        self._contents: dict[StudySource, str | None] = {}
        self._finish: Callable[[Report], object] | None = None

    def studies(
        self,
        found: StudyList,
        read: Read,
        *,
        asked: Mapping[str, Any],
        inputs: Sequence[str] = (),
        views: Sequence[str] = (),
        saved: Path | None = None,
        finish: Callable[[Report], object] | None = None,
    ) -> int:
        """Processes every study, in order, and returns the worst exit code.

        ``asked`` are the command's own options that a result depends on; ``inputs`` are further files that are read, ``views`` those
        of the same study, ``saved`` one that is written. ``finish`` is called with every report.
        """
        studies, settings, output = found.studies, self.settings, self.settings.output
        self._finish = finish
        self._name(studies, inputs)
        form = self._checked_form([study.path for study in studies], views, saved)
        for sentence in found.left_out:
            say(f"left out: {sentence}")
        with interruptible():
            if output is not None and form == "lines":
                self._file(studies, read, output, asked)
            elif len(studies) > 1:
                with closing(Answers(output, form)) as answers:
                    self._many(
                        studies, read, lambda study, result: answers.add_study(self._names[study], result, self._record(study, result))
                    )
            else:
                scan = [studies[0].path, *views] if form in (".dcm", ".sr.dcm") else None
                with closing(Answers(output, form, scan=scan, subject=settings.subject, study=settings.study)) as answers:
                    self._one(studies[0], read, answers)
        self._say_verdict()
        return max(self._codes, key=FROM_BEST_TO_WORST.index, default=0)

    def _checked_form(self, paths: Sequence[str], views: Sequence[str], saved: Path | None) -> str:
        """The form in which reports are written. Raises OptionError, OutputError or InputError where that is not possible."""
        settings, output, several = self.settings, self.settings.output, len(paths) > 1
        if output is not None:
            used = [*paths, *self._inputs, *self.used, *filter(None, [saved])]
            if several and output.suffix.lower() == ".html":
                check_pages(output, used, force=settings.force)
            check_output(output, "--output", used, force=settings.force or settings.resume, resumable=output.suffix == ".jsonl")
        form = form_of(output, several=several, as_json=settings.as_json)
        check_applies(form, subject=settings.subject, study=settings.study)
        if settings.resume and (form != "lines" or settings.force):
            raise OptionError("--resume continues a file of results; give --output NAME.jsonl, and leave out --force")
        if settings.resume and "-" in (*paths, *self._inputs):
            raise OptionError("--resume cannot tell whether standard input has changed; give a file")
        if form in (".dcm", ".sr.dcm"):
            from medgemma_app.export.dicom import check_scan

            check_scan([paths[0], *views], self.kind)
        if form == ".fhir.json":
            from medgemma_app.export.fhir import check_kind, check_references

            check_kind(self.kind)
            check_references(self.kind, settings.subject, settings.study)
        return form

    def _name(self, studies: Sequence[StudySource], inputs: Sequence[str]) -> None:
        """Gives every study a unique key and a unique name. Files from different folders may have the same name."""
        seen = Counter[str]()
        for study in studies:
            seen[study.key] += 1
            self._keys[study] = study.key + (f"-{seen[study.key]}" if seen[study.key] > 1 else "")
        self._names = dict(zip(studies, study_names([{"study": each.name, "study_id": self._keys[each]} for each in studies]), strict=True))
        self._inputs = inputs

    def _one(self, study: StudySource, read: Read, answers: Answers) -> None:
        """Streams a single study. If its input takes long to read, the model is loaded in the meantime."""
        from medgemma_app.tasks import write

        progress, settings = Progress(quiet=self.settings.quiet), self.settings
        with reading_ahead([study], read) as inputs:
            reading = next(inputs)
            if wait([reading], timeout=HEAD_START).done:
                reading.result()
            try:
                model = self._load(progress)
            except MedGemmaError:
                reading.result()  # an error in the input is reported rather than one in the model
                raise
            progress.show("reading the input")
            task = reading.result()(model)
            streamed = not (settings.no_stream or settings.retries) and answers.can_stream
            printer = StreamPrinter(progress, answer=streamed, thought=settings.show_thinking)
            try:
                report = write(model, task, retries=settings.retries, on_token=printer)
            except (GenerationCancelled, GenerationError) as stopped:
                progress.clear()
                if stopped.partial is not None:
                    answers.add_partial(stopped.partial, printer.printed)
                raise
            progress.clear()
        answers.add(report, printer.printed, self._record(study, report))
        say_issues(report)
        if not settings.quiet:
            say_pictures(report)
            say_timing(report.generation)
        self._count(report)

    def _file(self, studies: Sequence[StudySource], read: Read, path: Path, asked: Mapping[str, Any]) -> None:
        """Writes to a file of results, which may hold some of the studies already."""
        from medgemma_app.cli.results import Results, content_hash

        if self.model_name is None:  # the server decides
            self._load(Progress(quiet=self.settings.quiet))

        def content(study: StudySource) -> str | None:
            return content_hash(study.path, study.part, self._inputs)

        def read_and_hash(study: StudySource) -> Make:
            self._contents[study] = content(study)
            return read(study)

        run = {"kind": self.kind, "model": self.model_name, **{name: getattr(self.settings, name) for name in DECISIVE}, **asked}
        with closing(Results(path, run, fresh=self.settings.force)) as results:
            known = {self._keys[study]: study for study in studies if self._keys[study] in results.done}
            changed = {key for key, study in known.items() if results.done[key].content != content(study)}
            if changed:
                say(f"{counted(len(changed), 'study')} changed since {path.name} was written and will be processed again")
                results.drop(changed)
            left = [study for study in studies if self._keys[study] not in results.done]
            self._codes += [results.done[key].exit_code for key in known if key in results.done]
            if self.settings.resume:
                faulty = f", {len(list(filter(None, self._codes)))} of which failed or have errors" * any(self._codes)
                say(f"{path.name} already holds {len(self._codes)} of {len(studies)} studies{faulty}")
            self._many(left, read_and_hash, lambda study, result: results.add(self._record(study, result)))

    def _many(self, studies: Sequence[StudySource], read: Read, put: Put) -> None:
        """Decodes studies together and passes the results to ``put`` in order; a study that fails does not stop the run."""
        progress, tally = Progress(quiet=self.settings.quiet), Tally(len(studies))
        try:
            with reading_ahead(studies, read) as inputs:
                for study, result in zip(studies, self._results(inputs, progress), strict=True):
                    name = self._names[study]
                    progress.clear()
                    result = put(study, result) or result
                    if isinstance(result, MedGemmaError):
                        say(f"medgemma: {result}" if name in str(result) else f"medgemma: {name}: {result}")
                    else:
                        say_issues(result, f"{name}: ")
                    self._count(result)
                    progress.count(tally.count())
        finally:
            progress.clear()
            if studies and not self.settings.quiet:
                say(tally.text)

    def _results(self, inputs: Iterator[Future[Make]], progress: Progress) -> Iterator[Report | MedGemmaError]:
        """Yields a result for each input. The model is loaded once an input could be read, and not at all if none can be."""
        from medgemma_app.tasks import write_many

        for first in inputs:
            if isinstance(error := first.exception(), MedGemmaError):
                yield error
                continue
            model = self._load(progress)
            makes = (lambda model, reading=reading: reading.result()(model) for reading in chain([first], inputs))
            yield from write_many(model, makes, self.options, batch_size=self.settings.batch_size, retries=self.settings.retries)

    def _record(self, study: StudySource, result: Report | MedGemmaError) -> dict[str, Any]:
        """The line of a file of results for one study."""
        key, content = self._keys[study], self._contents.get(study)
        head = {"study": study.name, "study_id": key, "content": content, "exit_code": self._exit_code(result)}
        if not isinstance(result, MedGemmaError):
            return {**head, **result.to_dict()}
        partial = {"partial": result.partial.text} if isinstance(result, GenerationError) and result.partial is not None else {}
        return {**head, "error": str(result), "kind": self.kind, "model": {"id": self.model_name}, **partial}

    def _exit_code(self, result: Report | MedGemmaError) -> int:
        if isinstance(result, MedGemmaError):
            return result.exit_code
        found = severities(result)
        return VALIDATION_FAILED if "error" in found or (self.settings.strict and "warning" in found) else 0

    def _count(self, result: Report | MedGemmaError) -> None:
        self._written += 1
        self._codes.append(self._exit_code(result))
        if self._finish and not isinstance(result, MedGemmaError):
            self._finish(result)
        self._found += ["failed"] if isinstance(result, MedGemmaError) else severities(result)

    def _say_verdict(self) -> None:
        """Says what the checks found in this run; studies that were already in the file do not count."""
        failed, total = self._found.count("failed"), self._written
        checked = total - failed
        found = verdict(self._found) if checked < 2 else verdict(self._found).replace("the report is", "the reports are")
        words = [found] * (checked > 0) + [f"{failed} could not be read or written"] * (failed > 0)
        which = f"{checked} of {total} studies: " if 0 < checked < total else f"{total} studies: " if total > 1 else ""
        say(which + "; ".join(words) if words else "there was nothing left to do")

    def _load(self, progress: Progress) -> Model:
        if self._model is not None:
            return self._model
        progress.show(f"loading {self.model_name}" if self.endpoint is None else f"connecting to {self.endpoint.host}")
        try:
            with at_once():
                self._model = model = self._open()
        finally:
            progress.clear()
        say(NOTICE)
        self.model_name = model.id
        if self.endpoint is not None:
            say(f"{model.id} at {self.endpoint.host}")
        if model.id == "demo":
            say(DEMO_NOTICE)
        return model

    def _open(self) -> Model:
        if self.endpoint is not None:
            from medgemma_app.remote import connect_to

            return connect_to(self.endpoint, self.model_name)
        from medgemma_app.model.local import MedGemma

        progress = not self.settings.quiet and sys.stderr.isatty()
        chosen = self.settings
        return MedGemma.load(cast(str, self.model_name), revision=chosen.revision, adapter=chosen.adapter, progress=progress)


@contextmanager
def reading_ahead(studies: Sequence[StudySource], read: Read) -> Iterator[Iterator[Future[Make]]]:
    """The inputs in order, read in another thread while the model works on earlier ones."""
    pool = ThreadPoolExecutor(1)
    futures: deque[Future[Make]] = deque()

    def submitted() -> Iterator[Future[Make]]:
        for study in studies:
            futures.append(pool.submit(read, study))
            if len(futures) > READ_AHEAD:
                yield futures.popleft()
        while futures:
            yield futures.popleft()

    try:
        yield submitted()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
