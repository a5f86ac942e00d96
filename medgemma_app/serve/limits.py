"""What requests may take together: bytes of memory here, and processes that read what they sent.

The memory given with ``--memory`` is shared out once: to each process that reads, and to the bodies and pictures that requests hold
while they wait and are answered.
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
from medgemma_app.serve.responses import Refused
from medgemma_app.serve.served import stopping

if TYPE_CHECKING:
    T = TypeVar("T")

LEAST_MEMORY = 500_000_000
SHARES = {"text": 0.1, "picture": 0.15, "large": 0.45}  # of the memory, for each process that reads so; the rest is for what is held
QUICK_SECONDS, MOST_SECONDS = 2.0, 30.0
WAIT_SECONDS = 10.0  # for memory that others hold
BUSY_SECONDS = 2
MODULES = ("medgemma_app.serve.reading", "PIL.Image", "numpy")


class Budget:
    """Bytes that requests hold together. What is small does not wait behind what is large."""

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self._waiting: set[asyncio.Future[None]] = set()

    async def take(self, size: int) -> None:
        """Waits until so many bytes are free. Raises Refused when that takes long."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while size > self.free:
                    changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.add(changed)
                    try:
                        await changed
                    finally:
                        self._waiting.discard(changed)
        except TimeoutError:
            raise Refused(503, "other requests hold the memory that this one needs; ask again", retry_after=BUSY_SECONDS) from None
        self.free -= size

    def give(self, size: int) -> None:
        """Gives bytes back, and lets those who wait look again."""
        self.free += size
        for changed in self._waiting:
            if not changed.done():
                changed.set_result(None)


class Held:
    """What one request holds of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.size = budget, 0

    async def resize(self, size: int) -> None:
        """Holds ``size`` bytes from here on. Raises Refused when there are never so many, or not soon."""
        if size > self._budget.total:
            raise Refused(413, "the request needs more memory than this server has for all of them (--memory); send less at a time")
        if size <= self.size:
            self._budget.give(self.size - size)
        else:
            await self._budget.take(size - self.size)
        self.size = size

    def release(self) -> None:
        self._budget.give(self.size)
        self.size = 0


class Lane:
    """Sandboxes that read in turn, each input for so many ``seconds``."""

    def __init__(self, sandboxes: list[Sandbox], seconds: float, *, last_try: bool) -> None:
        self.sandboxes, self._seconds, self._last_try = sandboxes, seconds, last_try
        self.threads = ThreadPoolExecutor(len(sandboxes), "reading")
        self._free: asyncio.Queue[Sandbox] | None = None

    async def read(self, function: Callable[..., T], raw: bytes | bytearray, *arguments: Any) -> T:
        """What ``function`` makes of ``raw``. Cancelled, it ends the process that reads."""
        if self._free is None:
            self._free = asyncio.Queue()
            for sandbox in self.sandboxes:
                self._free.put_nowait(sandbox)
        sandbox = await self._free.get()
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


class Readers:
    """Reads in processes of their own: everything quickly, and again with more time and memory what that was not enough for.

    Texts have one of their own, so that they do not wait behind pictures.
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
        self._largest_quick = bounds["text"] // 5  # of a body: it is held as it came, as text, and as what it says
        self._stopped = False

    def start(self) -> None:
        """Starts the processes that the first requests will need, meanwhile."""
        for lane in (self._text, self._picture):
            for sandbox in lane.sandboxes:
                lane.threads.submit(sandbox.start)

    async def read(self, function: Callable[..., T], raw: bytes | bytearray, *arguments: Any, text: bool = False) -> T:
        """What ``function`` makes of ``raw``. Raises what it raises, TooMuch, and GenerationError after ``stop``."""
        try:
            if len(raw) <= self._largest_quick:
                with suppress(TooMuch):
                    return await (self._text if text else self._picture).read(self._unless_stopped(function), raw, *arguments)
            return await self._large.read(self._unless_stopped(function), raw, *arguments)
        except Ended:
            raise stopping() from None

    def _unless_stopped(self, function: Callable[..., T]) -> Callable[..., T]:
        if self._stopped:
            raise stopping()
        return function

    def stop(self) -> None:
        """Ends what is being read."""
        self._stopped = True
        for lane in self._lanes:
            lane.threads.shutdown(wait=False, cancel_futures=True)
            for sandbox in lane.sandboxes:
                sandbox.end()
