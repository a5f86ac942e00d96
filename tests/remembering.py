"""A model whose answers are computed once for all tests: tests of what is done with an answer need no new one."""

from __future__ import annotations

from copy import copy

from medgemma_app import MedGemmaError

_RESULTS = {}


def remembering(model):
    """The same model; a prompt that is given again, with the same options, gets what was computed for it the first time.

    ``generate_many`` answers one prompt at a time. A test that needs the model's own takes these attributes away (``delattr``).
    """
    fresh, again = model._results, copy(model)

    def results(prompt, decoding):
        key = (model.id, *decoding.prompt_ids, decoding.options, *(image.tobytes() for image in prompt.images))
        if key not in _RESULTS:
            _RESULTS[key] = list(fresh(prompt, decoding))
        yield from _RESULTS[key]

    def generate_many(prompts, options=None, *, batch_size):
        for prompt in prompts:
            try:
                yield again.generate(prompt, options)
            except MedGemmaError as error:
                yield error

    again._results, again.generate_many = results, generate_many
    return again
