"""Concurrent requests: a thread for each, results in order; all end at once when the caller stops asking."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from medgemma_app.errors import MedGemmaError
from medgemma_app.model.generation import EndpointError, GenerationError

if TYPE_CHECKING:
    from medgemma_app.model.generation import Generation, Token
    from medgemma_app.prompts import Prompt

    Ask = Callable[[Prompt, Callable[[Token], object]], Generation]
    Ended = tuple[int, Generation | BaseException]


class _Abandoned(Exception):
    """Raised at the next token of a request whose answer is no longer wanted; it closes the connection."""


def ask_all(ask: Ask, prompts: Iterable[Prompt], jobs: int) -> Iterator[Generation | MedGemmaError]:
    """For each prompt, in order, its Generation or its error, as soon as it is known; ``jobs`` requests run at a time.

    Prompts are taken from the iterable by the caller's thread, as there is room for them. Raises EndpointError in the place of
    the first prompt that met it: it would meet all that follow.
    """
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
    numbered, done, stop = enumerate(prompts), {}, threading.Event()
    running = turn = 0
    try:
        while True:
            while running < jobs and (item := next(numbered, None)):
                # Daemon threads: one that waits for a silent server must not keep the process alive.
                threading.Thread(target=_work, args=(ask, *item, ended, stop), daemon=True).start()
                running += 1
            if not running:
                return
            number, result = ended.get()
            running, done[number] = running - 1, result
            while turn in done:
                yield _result(done.pop(turn))
                turn += 1
    finally:
        stop.set()


def _work(ask: Ask, number: int, prompt: Prompt, ended: queue.SimpleQueue[Ended], stop: threading.Event) -> None:
    def watch(_: Token) -> None:
        if stop.is_set():
            raise _Abandoned

    try:
        ended.put((number, _ask_again_once(ask, prompt, watch)))
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
        ended.put((number, error))


def _ask_again_once(ask: Ask, prompt: Prompt, watch: Callable[[Token], object]) -> Generation:
    """A server that dies breaks off all answers; a second try tells that apart from a single answer that failed."""
    try:
        return ask(prompt, watch)
    except EndpointError:
        raise
    except GenerationError:
        return ask(prompt, watch)


def _result(result: Generation | BaseException) -> Generation | MedGemmaError:
    if isinstance(result, BaseException) and (isinstance(result, EndpointError) or not isinstance(result, MedGemmaError)):
        raise result
    return result
