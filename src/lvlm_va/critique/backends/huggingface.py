"""A vision-language model on this machine, through transformers: hf:<id or folder>."""

import logging
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from lvlm_va.critique.backends.batching import Batches
from lvlm_va.critique.backends.local_model import (
    DTYPES,
    LocalModel,
    choose_device,
    choose_dtype,
    is_out_of_memory,
)
from lvlm_va.critique.backends.model_source import find_model
from lvlm_va.critique.question import Question, Reply
from lvlm_va.errors import AnswerFailed, ConfigError, CriticError

__all__ = ["HuggingFaceBackend"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Line:
    """Who waits for answers, which belongs to one event loop, and the way to stop them."""

    batches: Batches[Question, Reply]
    stop: threading.Event


class HuggingFaceBackend:
    """A model that transformers can load (AutoModelForImageTextToText). See `Backend`.

    Its name carries the model's version, so that the answers of another model, or of the same one trained
    further, are never taken for its own. The weights are loaded when the first question arrives and
    released by `close`.

    Args:
        model: a folder that save_pretrained wrote, or an id of the Hugging Face hub.
        batch: questions answered together at most; halved, with a warning, when memory runs out.
        device: "auto" (a CUDA device where there is one), "cpu", "cuda" or "cuda:<number>".
        dtype: "auto" (bfloat16 where the device computes with it), "float32", "bfloat16" or "float16".

    Raises:
        CriticError: if transformers is missing, or the model cannot be had or is of another kind.
        ConfigError: if a name or number makes no sense.
    """

    kind: Literal["lvlm"] = "lvlm"

    def __init__(self, model: str, *, batch: int = 4, device: str = "auto", dtype: str = "auto") -> None:
        if batch < 1:
            raise ConfigError(f"hf:{model}: batch must be at least 1, not {batch}")
        if dtype not in ("auto", *DTYPES):
            raise ConfigError(f"hf:{model}: dtype must be one of auto, {', '.join(DTYPES)}, not {dtype!r}")
        _check_transformers()
        self._device = choose_device(device)
        self._dtype = choose_dtype(dtype, self._device)
        self._source = find_model(model)
        _check_kind(model, self._source.config)
        self.model = self._source.model
        self.name = f"hf:{self._source.model}@{self._source.version}"
        self._most = batch
        self._batch = batch
        self._loaded: LocalModel | None = None
        self._line: _Line | None = None

    def __repr__(self) -> str:
        return f"HuggingFaceBackend({self.name!r} on {self._device} as {self._dtype})"

    def usd(self, input_tokens: int, output_tokens: int) -> float:  # noqa: ARG002 -- see `Priced`
        """Nothing: the machine is one's own."""
        return 0.0

    async def answer(self, question: Question) -> Reply:
        """Ask the model, together with what else is asked now.

        Raises:
            AnswerFailed: if this question has no answer (too long, not enough memory for it alone).
            CriticError: if the model cannot be loaded.
        """
        if self._line is None:
            stop = threading.Event()
            self._line = _Line(
                Batches(lambda questions: self._answer(questions, stop), _key, self._most), stop
            )
        return await self._line.batches.ask(question)

    async def close(self) -> None:
        """End generation at the next token and release the model; the next question loads it again."""
        line, self._line = self._line, None
        if line is not None:
            line.stop.set()
            line.batches.close()
        self._loaded = None
        torch.cuda.empty_cache()

    def _answer(self, questions: Sequence[Question], stop: threading.Event) -> list[Reply | Exception]:
        """On the batches' thread: all of them, in as many parts as memory allows."""
        if self._loaded is None:
            self._loaded = LocalModel(self._source, self._device, self._dtype)
        model, answers = self._loaded, list[Reply | Exception]()
        while len(answers) < len(questions):
            part = questions[len(answers) : len(answers) + self._batch]
            try:
                answers += model.answer(part, stop)
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            torch.cuda.empty_cache()  # out here, where the error no longer holds what did not fit
            if len(part) > 1:
                self._batch = len(part) // 2
                _log.warning(
                    "%s: out of memory with %d questions at once; going on with %d",
                    self.name,
                    len(part),
                    self._batch,
                )
            else:
                answers.append(
                    AnswerFailed(
                        f"{self.name}: {self._device} has not enough memory for one question; choose a "
                        "smaller model, critique.dtype bfloat16, or critique.device cpu"
                    )
                )
        if stop.is_set():  # closed while the weights were being loaded
            self._loaded = None
        return answers


def _key(question: Question) -> Hashable:
    """What may share a batch: questions of one stage that are answered with the same parameters."""
    alone = id(question) if question.parameters.get("temperature", 0) else None  # samples depend on the batch
    return question.stage, repr(sorted(question.parameters.items())), alone


def _check_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise CriticError(
            "hf:<model> needs transformers: pip install 'lvlm-va[local]', or serve the model elsewhere and "
            "use openai:<model>"
        ) from None


def _check_kind(model: str, config: dict[str, object]) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    kind = config.get("model_type")
    if kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return
    if "auto_map" in config:
        raise CriticError(
            f"hf:{model}: it needs code from its own repository, which is never run here; serve it with a "
            "server that you trust with that, and use openai:<model>"
        )
    raise CriticError(
        f"hf:{model}: a {kind!r} is not a vision-language model that transformers knows; choose one that "
        "takes images and text"
    )
