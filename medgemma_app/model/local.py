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
    """A loaded checkpoint, made by ``MedGemma.load``. Only one thread may generate at a time; another one gets a GenerationError."""

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

        ``adapter`` is the folder of a LoRA or DoRA adapter in the format of PEFT or mlx-vlm. With ``align=False`` the model computes
        what mlx-vlm alone computes, so that the difference can be measured. A checkpoint that is complete on this machine needs no
        network. Loading limits the freed memory that mlx keeps in this process to 256 MB, unless a lower limit is set. Raises
        ModelError if the model cannot be loaded.
        """
        from medgemma_app.model.checkpoint import ALIASES
        from medgemma_app.model.loaded import LoadedModel

        expect(model, (str, os.PathLike), "the model must be a hub id, a folder, a short name or demo")
        expect(revision, (str, type(None)), "revision must be the name of a branch, tag or commit")
        expect(adapter, (str, os.PathLike, type(None)), "the adapter must be a folder")
        model = os.fspath(model)
        loaded, commit = LoadedModel.load(model, revision=revision, align=align, progress=progress, adapter=adapter)
        return cls(loaded, id=ALIASES.get(model, model), revision=commit)

    def describe(self) -> dict[str, Any]:
        """What a report says about the model."""
        return {"id": self.id, "revision": self.revision, **self._loaded.facts}

    def tokenize(self, prompt: Prompt) -> list[int]:
        """The token ids of ``prompt`` for the model, with the soft tokens of every picture."""
        return self._loaded.chat.encode(checked_prompt(prompt))

    def encode_image(self, image: Image) -> mx.array:
        """The projected SigLIP embeddings of an RGB picture: [256, text hidden size] for MedGemma.

        Those of the most recent pictures are kept, so that another question about a picture does not encode it again.
        """
        from PIL.Image import Image

        expect(image, Image, "give a PIL image, such as load_image(path) makes")
        return self._loaded.encode_image(image)

    def estimate(self, prompt: Prompt) -> Estimate | None:
        """The cost of ``prompt``: its tokens, their cache in bytes, and the seconds for its pictures, extrapolated from the first."""
        tokens = len(self.tokenize(prompt))
        start = time.perf_counter()
        for image in prompt.images[:1]:
            self._loaded.encode_image(image, fresh=True)
        seconds = (time.perf_counter() - start) * len(prompt.images)
        return Estimate(tokens, self._loaded.cache_bytes(tokens), seconds)

    def batch_size(self, max_tokens: int) -> int:
        """The number of prompts, 1 to 16, that fit into memory with the weights, each with a picture and ``max_tokens`` to generate."""
        return self._loaded.batch_size(max_tokens)

    def generate(self, prompt: Prompt, options: Options | None = None, *, on_token: Callable[[Token], object] | None = None) -> Generation:
        """The tokens of ``stream``, folded. Ctrl-C or an exception from ``on_token`` raises GenerationCancelled with the partial result."""
        import mlx.core as mx

        mx.reset_peak_memory()
        decoding = self._loaded.start(self.tokenize(prompt), checked_options(options, prompt))
        return collect(self._tokens(prompt, decoding), decoding, on_token)

    def stream(self, prompt: Prompt, options: Options | None = None) -> Generator[Token, None, None]:
        """Yields each Token as it is generated. Closing the generator stops the work before the next token and frees its memory.

        A text that only repeats itself ends with the finish reason "repetition". Raises ContextError if the prompt does not fit,
        GenerationError if the model fails or another thread is generating.
        """
        return self._tokens(prompt, self._loaded.start(self.tokenize(prompt), checked_options(options, prompt)))

    def generate_many(
        self, prompts: Iterable[Prompt], options: Options | None = None, *, batch_size: int = 8
    ) -> Iterator[Generation | MedGemmaError]:
        """Decodes ``batch_size`` prompts together; yields for each, in order, its Generation or the error it failed with.

        Prompts are taken from the iterable when there is room for them. Every answer is the one that ``generate`` would return;
        its ``seconds`` run from taking in the prompt to the last token, while other prompts are decoded too.
        """
        from medgemma_app.model.batch import generate_many

        given, chosen = checked_prompts(prompts, batch_size), checked_options(options).seeded()
        return self._one_thread.hold(generate_many(self._loaded, given, chosen, batch_size))

    def _tokens(self, prompt: Prompt, decoding: Decoding) -> Generator[Token, None, None]:
        """mlx-vlm's results -> tokens. It yields N + 1 results for N tokens; the last one repeats an id and has the finish reason."""
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
            except RuntimeError as error:  # mlx's only exception, also when memory runs out
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
    """A lock during generation. Another thread gets a GenerationError, since mlx does not support two at a time."""

    def __init__(self) -> None:
        self._lock, self._thread, self._running = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if self._running and self._thread != threading.get_ident():
                raise GenerationError("this model is generating in another thread; wait until that ends, or close its stream")
            self._thread, self._running = threading.get_ident(), self._running + 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1

    def hold(self, results: Iterator[Any]) -> Iterator[Any]:
        """Yields the results while holding the lock."""
        with self:
            yield from results


def _entry(values: mx.array, at: int) -> float:
    """One element of a vector; in float32 it is read in place, since an mlx operation takes a third of a millisecond."""
    import mlx.core as mx

    return float(memoryview(values)[at]) if values.dtype == mx.float32 else float(values[at].item())  # type: ignore[arg-type]
