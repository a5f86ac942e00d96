"""The memory that all requests share, and the processes that parse them.

The memory given with ``--memory`` is divided once: a share for each parsing process, and one for the bodies and pictures that
requests hold while they wait and are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from medgemma_app.errors import OptionError
from medgemma_app.inputs.sandbox import Ended, Sandbox, TooMuch
from medgemma_app.serve.access import Refused
from medgemma_app.serve.served import stopping

if TYPE_CHECKING:
    T = TypeVar("T")

LEAST_MEMORY = 500_000_000
SHARES = {"text": 0.1, "picture": 0.15, "large": 0.45}  # of the memory, for each process of a kind; requests hold the rest
QUICK_SECONDS, MOST_SECONDS = 2.0, 30.0
WAIT_SECONDS = 10.0  # for memory that other requests hold
BUSY_SECONDS = 2
MODULES = ("medgemma_app.serve.reading", "PIL.Image", "numpy")


class Budget:
    """The bytes that all requests may hold together. A small request does not wait behind a large one."""

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self._changed = asyncio.Event()

    async def take(self, size: int) -> None:
        """Waits until ``size`` bytes are free. Raises Refused after WAIT_SECONDS."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while size > self.free:
                    await self._changed.wait()
        except TimeoutError:
            raise Refused(503, "other requests hold the memory that this one needs; try again", retry_after=BUSY_SECONDS) from None
        self.free -= size

    def give(self, size: int) -> None:
        """Returns bytes, and wakes the requests that wait for them."""
        self.free += size
        self._changed.set()
        self._changed = asyncio.Event()


class Held:
    """The part of a budget that one request holds."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.size = budget, 0

    async def resize(self, size: int) -> None:
        """Holds ``size`` bytes from now on. Raises Refused where they exceed the budget, or are not free in time."""
        if size > self._budget.total:
            raise Refused(413, "the request needs more memory than the server has for all requests (--memory); send less at a time")
        if size <= self.size:
            self._budget.give(self.size - size)
        else:
            await self._budget.take(size - self.size)
        self.size = size

    def release(self) -> None:
        self._budget.give(self.size)
        self.size = 0


class Lane:
    """Sandboxes that share a queue of inputs; each input may take ``seconds``."""

    def __init__(self, sandboxes: list[Sandbox], seconds: float, *, last_try: bool) -> None:
        self.sandboxes, self._seconds, self._last_try = sandboxes, seconds, last_try
        self.threads = ThreadPoolExecutor(len(sandboxes), "reading")
        self._free: asyncio.Queue[Sandbox] = asyncio.Queue()
        for sandbox in sandboxes:
            self._free.put_nowait(sandbox)
        self._stopped = False

    async def read(self, function: Callable[..., T], raw: bytes | bytearray, *arguments: Any) -> T:
        """Applies ``function`` to ``raw`` in a sandbox. Cancelling it ends that process."""
        sandbox = await self._free.get()
        try:
            if self._stopped:
                raise Ended
            call = partial(sandbox.call, function, raw, *arguments, seconds=self._seconds, last_try=self._last_try)
            running = asyncio.get_running_loop().run_in_executor(self.threads, call)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                while not running.done():
                    sandbox.end()
                    await asyncio.wait({running}, timeout=0.1)
                running.exception()
                raise
        finally:
            self._free.put_nowait(sandbox)

    def stop(self) -> None:
        """Ends the processes, and what they read."""
        self._stopped = True
        self.threads.shutdown(wait=False, cancel_futures=True)
        for sandbox in self.sandboxes:
            sandbox.end()


class Readers:
    """Parses requests in separate processes: first with little time and memory and, if that is not enough, with more.

    Texts have a process of their own, so that they do not wait behind pictures.
    """

    def __init__(self, memory: int) -> None:
        if memory < LEAST_MEMORY:
            raise OptionError(f"--memory must be at least {LEAST_MEMORY / 1e9:g} GB")
        bounds = {name: int(memory * share) for name, share in SHARES.items()}
        self.budget = Budget(memory - bounds["text"] - 2 * bounds["picture"] - bounds["large"])
        self._text = Lane([Sandbox(bounds["text"], MODULES)], QUICK_SECONDS, last_try=False)
        self._picture = Lane([Sandbox(bounds["picture"], MODULES) for _ in range(2)], QUICK_SECONDS, last_try=False)
        self._large = Lane([Sandbox(bounds["large"], MODULES)], MOST_SECONDS, last_try=True)
        self._lanes = (self._text, self._picture, self._large)
        self._largest_quick = bounds["text"] // 5  # bytes of a body, of which parsing holds several copies

    def start(self) -> None:
        """Starts the processes for the first requests in the background."""
        for lane in (self._text, self._picture):
            for sandbox in lane.sandboxes:
                lane.threads.submit(sandbox.start)

    async def read(self, function: Callable[..., T], raw: bytes | bytearray, *arguments: Any, text: bool = False) -> T:
        """Applies ``function`` to ``raw``. Raises what it raises, TooMuch, or GenerationError after ``stop``."""
        try:
            if len(raw) <= self._largest_quick:
                with suppress(TooMuch):
                    return await (self._text if text else self._picture).read(function, raw, *arguments)
            return await self._large.read(function, raw, *arguments)
        except Ended:
            raise stopping() from None

    def stop(self) -> None:
        """Ends all parsing."""
        for lane in self._lanes:
            lane.stop()
