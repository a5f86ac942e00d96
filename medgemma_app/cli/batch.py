"""One run of a command over one or many studies: inputs are read ahead, the model is loaded once, every report is written."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medgemma_app.cli.options import DEFAULT_MODEL, RunOptions
from medgemma_app.cli.output import Answers, Results, check_output, content_hash, form_of
from medgemma_app.cli.process import at_once, interruptible
from medgemma_app.cli.terminal import Progress, StreamPrinter, pace, say_cost, say_issues, say_pictures, say_timing
from medgemma_app.errors import MedGemmaError, OptionError, OutputError
from medgemma_app.export import check_export, study_names
from medgemma_app.model.generation import GenerationCancelled, GenerationError
from medgemma_app.notices import DEMO_NOTICE, NOTICE, counted, issue_counts, say
from medgemma_app.prompts import choose_prompt, digest_of_prompts

if TYPE_CHECKING:
    from medgemma_app.inputs.studies import StudyList, StudySource
    from medgemma_app.model.generation import Model
    from medgemma_app.tasks import Report, Task, TaskKind

    Read = Callable[[StudySource], Task]
    Put = Callable[[str, Report | MedGemmaError, dict[str, Any]], OutputError | None]  # a study's name, its result, and its record

VALIDATION_FAILED = 3
FROM_BEST_TO_WORST = (0, VALIDATION_FAILED, 2, 1)
READ_AHEAD = 16  # the number of inputs that are read ahead
MANY_PICTURES = 4  # for more, such as a series of slices, the cost is stated beforehand
# The options that a result depends on; the others only decide how it is computed or shown.
DECISIVE = ("revision", "adapter", "max_tokens", "temperature", "top_k", "top_p", "seed", "repetition_penalty", "retries", "strict")


class Run:
    """The options of a run, which are checked before any file is read, and the state of the run."""

    def __init__(self, kind: TaskKind, settings: RunOptions, *, prompt: str | None = None) -> None:
        self.kind, self.settings = kind, settings
        self.options, self.endpoint = settings.generation(), settings.server()
        self.prompt = None if prompt is None else choose_prompt(prompt, kind)
        self.model_name = settings.model or (None if self.endpoint else DEFAULT_MODEL)
        # Files and folders that the run reads besides its inputs.
        self.used = [name for name in (prompt, settings.model, settings.adapter, settings.api_key_file) if name and name != "demo"]
        self._model: Model | None = None
        self._progress = Progress(quiet=settings.quiet)
        self._codes: list[int] = []
        self._found: list[list[str] | None] = []  # the severities in each study of this run; None for one that failed
        self._keys: dict[StudySource, str] = {}
        self._names: dict[StudySource, str] = {}  # unique names of the studies of this run
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

        ``asked`` are the command's own options that a result depends on; ``inputs`` are further files to read, ``views`` those of the
        same study; ``saved`` is a file to write. ``finish`` is called with every report.
        """
        studies, settings, output = found.studies, self.settings, self.settings.output
        self._finish, self._inputs = finish, inputs
        self._name(studies)
        form = self._checked_form([study.path for study in studies], views, saved)
        for sentence in found.left_out:
            say(f"left out: {sentence}")
        with interruptible():
            if output is not None and form == "lines":
                self._file(studies, read, output, asked)
            elif len(studies) > 1:
                with closing(Answers(output, form, several=True)) as answers:
                    self._many(studies, read, answers.add_study)
            else:
                scan = [studies[0].path, *views] if form in (".dcm", ".sr.dcm") else None
                with closing(Answers(output, form, scan=scan, subject=settings.subject, study=settings.study)) as answers:
                    self._one(studies[0], read, answers)
        self._say_counts()
        return max(self._codes, key=FROM_BEST_TO_WORST.index, default=0)

    def _checked_form(self, paths: Sequence[str], views: Sequence[str], saved: Path | None) -> str:
        """The form in which reports are written. Raises OptionError, OutputError or InputError where that is not possible."""
        settings, output, several = self.settings, self.settings.output, len(paths) > 1
        if output is not None:
            used = [*paths, *self._inputs, *self.used, *filter(None, [saved])]
            check_output(output, "--output", used, force=settings.force or settings.resume, resumable=output.suffix == ".jsonl")
        form = form_of(output, several=several, as_json=settings.as_json)
        if settings.resume and (form != "lines" or settings.force):
            raise OptionError("--resume continues a file of results; give --output NAME.jsonl, and leave out --force")
        if settings.resume and "-" in (*paths, *self._inputs):
            raise OptionError("--resume cannot tell whether standard input has changed; give a file")
        check_export(form, self.kind, [paths[0], *views], subject=settings.subject, study=settings.study)
        return form

    def _name(self, studies: Sequence[StudySource]) -> None:
        """Gives every study a unique key and a unique name. Files from different folders may have the same name."""
        seen = Counter[str]()
        for study in studies:
            seen[study.key] += 1
            self._keys[study] = study.key + (f"-{seen[study.key]}" if seen[study.key] > 1 else "")
        self._names = dict(zip(studies, study_names([{"study": each.name, "study_id": self._keys[each]} for each in studies]), strict=True))

    def _one(self, study: StudySource, read: Read, answers: Answers) -> None:
        """Streams a single study. Its input is read before the model is loaded, so that an error in it is found sooner."""
        from medgemma_app.tasks import write

        progress, settings = self._progress, self.settings
        task = self._fitted(read(study))
        streamed = not (settings.no_stream or settings.retries) and answers.can_stream
        printer = StreamPrinter(progress, answer=streamed, thought=settings.show_thinking)
        try:
            report = write(self._load(), task, retries=settings.retries, on_token=printer)
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
        if self.model_name is None:  # the server decides
            self._load()
        prompt = self.prompt.sha256 if self.prompt else digest_of_prompts(self.kind)
        options = {name: getattr(self.settings, name) for name in DECISIVE}
        run = {"kind": self.kind, "model": self.model_name, "prompt": prompt, **options, **asked}
        with closing(Results(path, run, fresh=self.settings.force)) as results:
            known = [study for study in studies if self._keys[study] in results.done]
            left = [study for study in studies if self._keys[study] not in results.done]
            if changed := [study for study in known if results.done[self._keys[study]].content != self._content(study)]:
                raise OptionError(
                    f"{counted(len(changed), 'study')} changed since {path.name} was written, such as {self._names[changed[0]]}; remove "
                    "the lines of such studies, choose another name, or start again with --force"
                )
            self._codes += [results.done[self._keys[study]].exit_code for study in known]
            if self.settings.resume:
                faulty = f", {len(list(filter(None, self._codes)))} of which failed or have errors" * any(self._codes)
                say(f"{path.name} already holds {len(known)} of {len(studies)} studies{faulty}")

            def read_and_hash(study: StudySource) -> Task:
                self._contents[study] = self._content(study)
                return read(study)

            self._many(left, read_and_hash, lambda _name, _result, record: results.add(record))

    def _content(self, study: StudySource) -> str | None:
        return content_hash(study.path, study.part, self._inputs)

    def _many(self, studies: Sequence[StudySource], read: Read, put: Put) -> None:
        """Decodes studies together and passes the results to ``put`` in order; a study that fails does not stop the run."""
        start = time.perf_counter()

        def how_far() -> str:
            return pace(len(self._found), len(studies), time.perf_counter() - start)

        try:
            with reading_ahead(studies, read) as inputs:
                for study, result in zip(studies, self._results(inputs), strict=True):
                    name = self._names[study]
                    self._progress.clear()
                    result = put(name, result, self._record(study, result)) or result
                    if isinstance(result, MedGemmaError):
                        say(f"medgemma: {result}" if name in str(result) else f"medgemma: {name}: {result}")
                    else:
                        say_issues(result, f"{name}: ")
                    self._count(result)
                    self._progress.count(how_far())
        finally:
            self._progress.clear()
            if studies and not self.settings.quiet:
                say(how_far())

    def _results(self, inputs: Iterator[Future[Task]]) -> Iterator[Report | MedGemmaError]:
        """Yields a result for each input. The model is loaded after the first input that can be read, and not at all if none can be."""
        from medgemma_app.tasks import write_many

        for first in inputs:
            if isinstance(error := first.exception(), MedGemmaError):
                yield error
                continue
            tasks = (lambda reading=reading: self._fitted(reading.result()) for reading in chain([first], inputs))
            yield from write_many(self._load(), tasks, self.options, batch_size=self.settings.batch_size, retries=self.settings.retries)

    def _fitted(self, task: Task) -> Task:
        """The task, fitted to the model; prints the cost of a series of slices."""
        task = task.fitted(model := self._load())
        if len(task.prompt.images) > MANY_PICTURES:
            say_cost(model, task.prompt)
        return task

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
        failed = "error" in result.severities or (self.settings.strict and "warning" in result.severities)
        return VALIDATION_FAILED if failed else 0

    def _count(self, result: Report | MedGemmaError) -> None:
        self._codes.append(self._exit_code(result))
        self._found.append(None if isinstance(result, MedGemmaError) else result.severities)
        if self._finish and not isinstance(result, MedGemmaError):
            self._finish(result)

    def _say_counts(self) -> None:
        """Prints what the checks found in this run; studies that were already in the file do not count."""
        checked = [found for found in self._found if found is not None]
        total, failed = len(self._found), len(self._found) - len(checked)
        words = [issue_counts([*chain.from_iterable(checked)])] if checked else []
        words += [f"{failed} could not be read or written"] if failed else []
        which = f"{len(checked)} of {total} studies: " if checked and failed else f"{total} studies: " if total > 1 else ""
        say(which + "; ".join(words) if words else "there was nothing left to do")

    def _load(self) -> Model:
        if self._model is not None:
            return self._model
        self._progress.show(f"loading {self.model_name}" if self.endpoint is None else f"connecting to {self.endpoint.host}")
        try:
            with at_once():
                self._model = model = self._open()
        finally:
            self._progress.clear()
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
def reading_ahead(studies: Sequence[StudySource], read: Read) -> Iterator[Iterator[Future[Task]]]:
    """The inputs in order, read in another thread while the model works on earlier ones."""
    pool = ThreadPoolExecutor(1)
    futures: deque[Future[Task]] = deque()

    def submitted() -> Iterator[Future[Task]]:
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
