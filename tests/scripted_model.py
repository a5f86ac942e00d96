"""A model that gives the answer it was made with, and keeps what it was asked."""

from __future__ import annotations

from typing import Any

from medgemma_app import Generation, Options, Prompt


class ScriptedModel:
    """What a report needs of a model, without one."""

    id, context, can_count, packages = "scripted", 100_000, True, ()

    def __init__(self, *answers: str, finish_reason: Any = "stop") -> None:
        self.answers, self.finish_reason = list(answers), finish_reason
        self.prompts: list[Prompt] = []
        self.options: list[Options] = []

    def describe(self) -> dict[str, Any]:
        return {"id": self.id}

    def tokenize(self, prompt: Prompt) -> list[int]:
        return [0] * sum(len(part) for part in prompt.parts if isinstance(part, str))

    def generate(self, prompt: Prompt, options: Options, *, on_token: Any = None) -> Generation:
        self.prompts.append(prompt)
        self.options.append(options)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Generation(answer, None, None, self.finish_reason, None, 0.0, None)

    def generate_many(self, prompts: Any, options: Any = None, *, batch_size: int = 8) -> Any:
        return (self.generate(prompt, options) for prompt in prompts)
