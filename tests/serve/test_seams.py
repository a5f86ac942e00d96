"""What the engine relies on in mlx-vlm, and the habits of mlx-vlm that it corrects."""

from __future__ import annotations

import inspect

from mlx_vlm.generate.ar import BatchGenerator
from mlx_vlm.server.app import _protocol_deps
from mlx_vlm.server.generation import ResponseGenerator


def test_mlx_vlm_still_draws_and_cancels_for_all_requests_alike():
    """Where this fails, mlx-vlm has learnt it: look whether Draws, and cancelling by the queue, are still needed."""
    assert "sampler" not in inspect.signature(BatchGenerator.insert).parameters
    assert "self.uid_count = 0" in inspect.getsource(BatchGenerator.__init__)
    assert "_cancelled.add(uid)" in inspect.getsource(ResponseGenerator._cancel)


def test_mlx_vlm_still_has_the_seams_that_are_used():
    assert {"get_cached_model", "apply_chat_template"} <= set(vars(_protocol_deps))
    called = inspect.getsource(ResponseGenerator._run_impl) + inspect.getsource(ResponseGenerator._step)
    for name in (
        "_initialize_model", "_collect_pending_requests", "_apply_cancellations", "_gpu_embed", "_make_sampler", "_make_logits_processors",
        "_stream_text",
    ):  # fmt: skip
        assert f"self.{name}(" in called
