"""One call of the command: inputs are read ahead, the model is loaded once, and every answer is written where it belongs."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from medgemma_app.cli.output import Answers, Progress, StreamPrinter, say, say_issues, say_pictures, say_result, say_timing
from medgemma_app.errors import MedGemmaError, OptionError
from medgemma_app.model.generation import GenerationCancelled, GenerationError
from medgemma_app.notices import DEMO_NOTICE, NOTICE

if TYPE_CHECKING:
    from medgemma_app.model.generation import Model, Options
    from medgemma_app.remote.endpoint import Endpoint
    from medgemma_app.tasks import Report, Task

    Make = Callable[[Model], Task]  # an input that has been read; the model is needed to count its tokens
    Read = Callable[[str], Make]

VALIDATION_FAILED = 3
FROM_BEST_TO_WORST = (0, VALIDATION_FAILED, 2, 1)
HEAD_START = 0.3  # seconds: most input errors are known by then, and nobody has to wait for the model to hear of them
READ_AHEAD = 16  # inputs that are read, and kept, before their turn


@dataclass
class Run:
    """What the user asked for, by whichever command."""

    kind: str
    model_name: str | None
    revision: str | None
    endpoint: Endpoint | None
    options: Options
    as_json: bool
    output: Path | None
    stream: bool
    quiet: bool
    thinking: bool
    retries: int
    batch_size: int | None
    resume: bool
    _codes: list[int] = field(default_factory=list)
    _model: Model | None = None

    def studies(self, names: Sequence[str], read: Read) -> None:
        """Every study, in order. Exits with the worst of their codes."""
        grows = self.output is not None and (self.output.suffix == ".jsonl" or (self.as_json and len(names) > 1))
        if self.resume and not grows:
            raise OptionError("--resume goes on with a file of results; name it by --output RESULTS.jsonl")
        if grows:
            self._file(names, read, cast(Path, self.output))
        elif len(names) > 1:
            with closing(Answers(self.output, as_json=self.as_json)) as answers:
                self._many(names, read, lambda name, result: answers.add_study(name, result, self._record(name, result)))
        else:
            self._one(names[0], read)
        raise typer.Exit(max(self._codes, key=FROM_BEST_TO_WORST.index, default=0))

    def _one(self, name: str, read: Read) -> None:
        """A single study is streamed. Where its input takes long to read, the model is loaded meanwhile."""
        from medgemma_app.tasks import write

        progress = Progress(quiet=self.quiet)
        with closing(Answers(self.output, as_json=self.as_json)) as answers, reading_ahead([name], read) as inputs:
            reading = next(inputs)
            if wait([reading], timeout=HEAD_START).done:
                reading.result()
            try:
                model = self._load(progress)
            except MedGemmaError:
                reading.result()  # what is wrong with the input comes first, however long it took to find out
                raise
            progress.show("reading the input")
            task = reading.result()(model)
            printer = StreamPrinter(progress, answer=self.stream and answers.can_stream and not self.retries, thought=self.thinking)
            try:
                report = write(model, task, retries=self.retries, on_token=printer)
            except (GenerationCancelled, GenerationError) as stopped:
                progress.clear()
                if stopped.partial is not None:
                    answers.add_partial(stopped.partial, printer.printed)
                raise
            progress.clear()
            answers.add(report, printer.printed)
        say_issues(report)
        if not self.quiet:
            say_pictures(report)
            say_timing(report.generation)
        self._codes.append(exit_code(report))

    def _file(self, names: Sequence[str], read: Read, path: Path) -> None:
        """Into a file of results, which may hold some of them already."""
        from medgemma_app.cli.results import Results

        if self.model_name is None:  # only the server knows
            self._load(Progress(quiet=self.quiet))
        with closing(Results(path, kind=self.kind, model=cast(str, self.model_name), resume=self.resume)) as results:
            left = [name for name in names if name not in results.done]
            if self.resume:
                say(f"{len(names) - len(left)} of {len(names)} studies are in {path.name} already")
            self._codes += [results.done[name] for name in names if name in results.done]
            self._many(left, read, lambda name, result: results.add(self._record(name, result)))

    def _many(self, names: Sequence[str], read: Read, put: Callable[[str, Report | MedGemmaError], object]) -> None:
        """Decoded together, given to ``put`` one by one and in order; one that fails does not stop the next."""
        progress, tally = Progress(quiet=self.quiet), Tally(len(names))
        try:
            with reading_ahead(names, read) as inputs:
                for number, (name, result) in enumerate(zip(names, self._results(inputs, progress), strict=True), 1):
                    progress.clear()
                    put(name, result)
                    say_result(name, number, result)
                    self._codes.append(exit_code(result))
                    progress.count(tally.count())
        finally:
            progress.clear()
            if names and not self.quiet:
                say(tally.text)

    def _results(self, inputs: Iterator[Future[Make]], progress: Progress) -> Iterator[Report | MedGemmaError]:
        """The model is loaded when the first input has been read, and not for inputs of which none can be."""
        from medgemma_app.tasks import write_many

        for first in inputs:
            if isinstance(error := first.exception(), MedGemmaError):
                yield error
                continue
            model = self._load(progress)
            makes = (lambda model, reading=reading: reading.result()(model) for reading in chain([first], inputs))
            size = self.batch_size or model.batch_size(self.options.max_tokens)
            yield from write_many(model, makes, self.options, batch_size=size, retries=self.retries)

    def _record(self, name: str, result: Report | MedGemmaError) -> dict[str, Any]:
        """What a line of a file of results says of a study."""
        if isinstance(result, MedGemmaError):
            rest = {"error": str(result), "kind": self.kind, "model": {"id": self.model_name}}
            if isinstance(result, GenerationError) and result.partial is not None:
                rest["partial"] = result.partial.text
        else:
            rest = result.to_dict()
        return {"study": name, "exit_code": exit_code(result), **rest}

    def _load(self, progress: Progress) -> Model:
        if self._model is not None:
            return self._model
        progress.show(f"loading {self.model_name}" if self.endpoint is None else f"asking {self.endpoint.host}")
        try:
            self._model = model = self._loaded()
        finally:
            progress.clear()
        say(NOTICE)
        self.model_name = model.id
        if self.endpoint is not None:
            say(f"{model.id} at {self.endpoint.host}")
        if model.id == "demo":
            say(DEMO_NOTICE)
        return model

    def _loaded(self) -> Model:
        if self.endpoint is not None:
            from medgemma_app.remote import connect_to

            return connect_to(self.endpoint, self.model_name)
        from medgemma_app.model.local import MedGemma

        return MedGemma.load(cast(str, self.model_name), revision=self.revision, progress=not self.quiet and sys.stderr.isatty())


class Tally:
    """How far a run over many studies has come."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._start = total, 0, time.perf_counter()

    def count(self) -> str:
        self._done += 1
        return self.text

    @property
    def text(self) -> str:
        """Studies done, the rate so far, and what is left at that rate."""
        seconds = time.perf_counter() - self._start
        left = "" if not 0 < self._done < self._total else f", {duration(seconds / self._done * (self._total - self._done))} left"
        return f"{self._done} of {self._total} studies in {duration(seconds)}, {60 * self._done / max(seconds, 1e-9):.1f} a minute{left}"


def duration(seconds: float) -> str:
    """To the unit a waiting person thinks in."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def exit_code(result: Report | MedGemmaError) -> int:
    """The exit code a study has by itself."""
    if isinstance(result, MedGemmaError):
        return result.exit_code
    return 0 if result.validation.ok else VALIDATION_FAILED


@contextmanager
def reading_ahead(names: Iterable[str], read: Read) -> Iterator[Iterator[Future[Make]]]:
    """Every input in order, read by another thread while the model works on those before it."""
    pool = ThreadPoolExecutor(1)
    futures: deque[Future[Make]] = deque()

    def submitted() -> Iterator[Future[Make]]:
        for name in names:
            futures.append(pool.submit(read, name))
            if len(futures) > READ_AHEAD:
                yield futures.popleft()
        while futures:
            yield futures.popleft()

    try:
        yield submitted()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
