"""MedGemma: load, stream, generate, encode_image, tokenize, over ``mlx_vlm.load`` and ``mlx_vlm.stream_generate``."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from medgemma_app.errors import MedGemmaError, expect
from medgemma_app.model.answer import collect
from medgemma_app.model.decoding import Decoding, Sampler, model_failed, no_such_token
from medgemma_app.model.generation import Estimate, Generation, GenerationError, Options, Token, checked_options, checked_prompts
from medgemma_app.prompts import Prompt, checked_prompt

if TYPE_CHECKING:
    from pathlib import Path

    import mlx.core as mx
    from PIL.Image import Image

    from medgemma_app.model.loaded import LoadedModel


class MedGemma:
    """A loaded checkpoint; make one with ``MedGemma.load``. One thread generates at a time; another gets a GenerationError."""

    can_count = True
    packages: tuple[str, ...] = ("medgemma-app", "mlx", "mlx-vlm", "transformers", "pillow")

    def __init__(self, loaded: LoadedModel, *, id: str, revision: str | None) -> None:
        self.id, self.revision, self.context, self.aligned = id, revision, loaded.context, loaded.aligned
        self._loaded = loaded
        self._one_thread = _OneThread()

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        adapter: str | Path | None = None,
        align: bool = True,
        progress: bool = False,
    ) -> MedGemma:
        """Loads ``model``: a hub id, a folder, "demo", or 4b, 1.5-4b, 27b, 27b-text. ``progress`` shows a download on stderr.

        ``adapter`` is the folder of a LoRA or DoRA adapter, as PEFT or mlx-vlm saves it.

        ``align=False`` computes what mlx-vlm alone computes, to measure the difference. Loading limits the freed memory that mlx
        keeps in this process to 256 MB, unless a lower limit is set already. Raises ModelError when the model cannot be
        loaded; a checkpoint that is complete on this machine needs no network.
        """
        from medgemma_app.model.checkpoint import ALIASES
        from medgemma_app.model.loaded import LoadedModel

        expect(model, (str, os.PathLike), "the model is given as a hub id, a folder, a short name or demo")
        expect(revision, (str, type(None)), "revision must be the name of a branch, tag or commit")
        expect(adapter, (str, os.PathLike, type(None)), "the adapter is given as a folder")
        model = os.fspath(model)
        loaded, commit = LoadedModel.load(model, revision=revision, align=align, progress=progress, adapter=adapter)
        return cls(loaded, id=ALIASES.get(model, model), revision=commit)

    def describe(self) -> dict[str, Any]:
        """What a report says of the model."""
        return {"id": self.id, "revision": self.revision, **self._loaded.facts}

    def tokenize(self, prompt: Prompt) -> list[int]:
        """The ids the model is fed for ``prompt``, every picture as its image soft tokens."""
        return self._loaded.chat.encode(checked_prompt(prompt))

    def encode_image(self, image: Image) -> mx.array:
        """The projected SigLIP embeddings of an RGB picture: [256, text hidden size] for MedGemma, as the projector gives them.

        Those of the last pictures are kept, so that another question about one of them does not encode it again.
        """
        from PIL.Image import Image

        expect(image, Image, "give a PIL image, such as load_image(path) makes")
        return self._loaded.encode_image(image)

    def estimate(self, prompt: Prompt) -> Estimate | None:
        """What ``prompt`` will cost: its tokens, the cache they fill, and how long its pictures take, by timing the first."""
        tokens = len(self.tokenize(prompt))
        start = time.perf_counter()
        for image in prompt.images[:1]:
            self._loaded.encode_image(image, fresh=True)
        seconds = (time.perf_counter() - start) * len(prompt.images)
        return Estimate(tokens, self._loaded.cache_bytes(tokens), seconds)

    def batch_size(self, max_tokens: int) -> int:
        """How many prompts fit into memory beside the weights, when each has a picture and an answer of ``max_tokens``: 1 to 16."""
        return self._loaded.batch_size(max_tokens)

    def generate(self, prompt: Prompt, options: Options | None = None, *, on_token: Callable[[Token], object] | None = None) -> Generation:
        """``stream``, folded. Ctrl-C or an exception from ``on_token`` raises GenerationCancelled with what there was."""
        import mlx.core as mx

        mx.reset_peak_memory()
        decoding = self._loaded.start(self.tokenize(prompt), checked_options(options, prompt))
        return collect(self._tokens(prompt, decoding), decoding, on_token)

    def stream(self, prompt: Prompt, options: Options | None = None) -> Generator[Token, None, None]:
        """One Token as each is generated. Closing the generator stops the work before the next token and frees it.

        A text that only repeats itself ends with the finish reason "repetition". Raises ContextError when the prompt does not fit,
        GenerationError when the model fails or another thread is generating.
        """
        return self._tokens(prompt, self._loaded.start(self.tokenize(prompt), checked_options(options, prompt)))

    def generate_many(
        self, prompts: Iterable[Prompt], options: Options | None = None, *, batch_size: int = 8
    ) -> Iterator[Generation | MedGemmaError]:
        """Decodes ``batch_size`` prompts together; gives for each, in order, its Generation or the error it failed with.

        Prompts are taken from the iterable as there is room for them. Every answer is the one ``generate`` would give;
        ``seconds`` are those between taking the prompt in and its last token, beside the others.
        """
        from medgemma_app.model.batch import generate_many

        given, chosen = checked_prompts(prompts, batch_size), checked_options(options).seeded()
        return self._one_thread.hold(generate_many(self._loaded, given, chosen, batch_size))

    def _tokens(self, prompt: Prompt, decoding: Decoding) -> Generator[Token, None, None]:
        """mlx-vlm's results -> tokens. It gives N + 1 results for N tokens; the last one repeats an id and carries the reason."""
        import mlx.core as mx

        with self._one_thread:
            try:
                with closing(self._results(prompt, decoding)) as results:
                    for result in results:
                        if result.finish_reason is not None:
                            break
                        yield decoding.decode(result.token, _entry(result.logprobs, result.token))
                        if decoding.looping:
                            break
                yield from decoding.end("repetition" if decoding.looping else result.finish_reason)
            except RuntimeError as error:  # mlx reports everything so, running out of memory included
                raise model_failed(error) from error
            except IndexError as error:  # mlx-vlm's own detokenizer
                raise no_such_token() from error
            finally:
                mx.clear_cache()

    def _results(self, prompt: Prompt, decoding: Decoding) -> Generator[Any, None, None]:
        import mlx.core as mx
        from mlx_vlm import stream_generate

        options, ids, loaded = decoding.options, decoding.prompt_ids, self._loaded
        fed = {"input_ids": mx.array([ids]), "mask": mx.ones((1, len(ids))), **loaded.picture_inputs(prompt)}
        return stream_generate(
            loaded.model,
            loaded.processor,
            "",
            **fed,
            max_tokens=options.max_tokens,
            sampler=Sampler(options, top_k=loaded.top_k(options)),
            logits_processors=loaded.processors(options),
        )


class _OneThread:
    """Held during a generation. Another thread gets a GenerationError meanwhile, since mlx does not support two."""

    def __init__(self) -> None:
        self._lock, self._thread, self._running = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if self._running and self._thread != threading.get_ident():
                raise GenerationError("this model is generating in another thread; wait for it to end, or close its stream")
            self._thread, self._running = threading.get_ident(), self._running + 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1

    def hold(self, results: Iterator[Any]) -> Iterator[Any]:
        """The results, in one thread from the first to the last."""
        with self:
            yield from results


def _entry(values: mx.array, at: int) -> float:
    """One entry of a vector, read where it lies if its type allows: an operation of its own costs a third of a millisecond."""
    import mlx.core as mx

    return float(memoryview(values)[at]) if values.dtype == mx.float32 else float(values[at].item())  # type: ignore[arg-type]
