"""The demo's tokenizer and processor files: Gemma's special tokens, byte fallback and chat template over a small vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VOCABULARY = 1600
IMAGE_SIZE = 96
IMAGE_TOKENS = 36
# The ids up to 106 are Gemma's own. <mask>, [multimodal] and <unusedN> are ordinary added tokens there, and so they are here.
PLAIN = ["<mask>", "[multimodal]", *(f"<unused{number}>" for number in range(99))]
IMAGE_NAMES = ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", *PLAIN, "<start_of_turn>", "<end_of_turn>", *IMAGE_NAMES]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
END_OF_TURN = SPECIAL.index("<end_of_turn>")
START_OF_IMAGE, END_OF_IMAGE, IMAGE_TOKEN = (SPECIAL.index(name) for name in IMAGE_NAMES)
# Words with the space before them, single digits, line breaks, runs of signs: a merge never crosses their borders.
PIECES = r"▁?\p{L}+|\d|\n+|▁?[^\s\p{L}\d▁]+|▁+"
TEMPLATE = (
    "{{ bos_token }}"
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- if messages[0]['content'] is string -%}{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}"
    "{%- else -%}{%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}{%- endif -%}"
    "{%- set loop_messages = messages[1:] -%}"
    "{%- else -%}{%- set first_user_prefix = '' -%}{%- set loop_messages = messages -%}{%- endif -%}"
    "{%- for message in loop_messages -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{%- endif -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
    "{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}"
    "{%- else -%}{%- for item in message['content'] -%}"
    "{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}"
    "{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{ '<end_of_turn>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)


def build_tokenizer(texts: Iterable[str]) -> Any:
    """A transformers tokenizer whose merges are learnt from ``texts``."""
    from tokenizers import AddedToken, Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary, merges = _merges(texts)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    _dress(tokenizer)
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in SPECIAL if name not in PLAIN])
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in PLAIN])
    # Gemma's tokenizer writes <bos> by itself, which is how a second one comes about.
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    images = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    names = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "unk", "pad")}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **names, padding_side="left", extra_special_tokens=images,
        clean_up_tokenization_spaces=False, chat_template=TEMPLATE,
    )  # fmt: skip


def _merges(texts: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-pair encoding, special tokens and bytes first."""
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    _dress(tokenizer)
    alphabet = [*(chr(code) for code in range(33, 127)), "▁", "\n", "°"]
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL + BYTES, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _dress(tokenizer: Any) -> None:
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


def build_processor(tokenizer: Any) -> Any:
    """The processor around the tokenizer; pictures become 96 x 96, between -1 and 1, never cropped."""
    from transformers import Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    images = Gemma3ImageProcessorPil(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, do_pan_and_scan=False, image_seq_length=IMAGE_TOKENS,
        image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2, rescale_factor=1 / 255, do_convert_rgb=True,
    )  # fmt: skip
    return Gemma3Processor(images, tokenizer, chat_template=TEMPLATE, image_seq_length=IMAGE_TOKENS)


def save_processor(processor: Any, folder: Path) -> None:
    """Writes the files in the layout of released checkpoints, where the template lies in tokenizer_config.json too."""
    processor.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")
