"""A vision-language model on this machine: loaded through transformers, asked in batches."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from lvlm_va.critique.backends.conversation import (
    Message,
    conversation,
    disarm,
    knows_system_role,
)
from lvlm_va.critique.backends.model_source import ModelSource
from lvlm_va.critique.question import Question, Reply, as_text
from lvlm_va.errors import AnswerFailed, ConfigError, CriticError

__all__ = ["DTYPES", "LocalModel", "choose_device", "choose_dtype", "is_out_of_memory"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_NO_SCHEMA = "asked without a JSON schema: the prompt alone asks for JSON"
_NO_ROLE = "the system prompt opens the user's text: the model's chat template has no system role"
_DISARMED = "what looked like one of the model's control tokens was quoted with a space in it"
_READ = ("temperature", "top_p", "seed", "max_tokens", "detail")
_LONGEST = 4096  # tokens of an answer, where the question sets no limit
_log = logging.getLogger(__name__)


def choose_device(device: str) -> torch.device:
    """The device called "auto" (a CUDA device where there is one), "cpu", "cuda" or "cuda:<number>".

    Raises:
        ConfigError: if there is no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:<number>, not {device!r}") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {device}: this machine has {torch.cuda.device_count()} CUDA devices")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The number format called `dtype`; "auto" is bfloat16 where `device` computes with it.

    Without it, "auto" is float16 on a GPU and float32 on a CPU.
    """
    if dtype != "auto":
        return DTYPES[dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


@dataclass(frozen=True)
class _Prompts:
    """Questions as the model reads them, and how many tokens each of them takes."""

    inputs: Mapping[str, Tensor]
    tokens: Sequence[int]


class LocalModel:
    """A model ready to answer. Weights are safetensors; code from a model's repository is never run.

    Args:
        source: where it is.
        device: where it computes.
        dtype: the number format of its weights.

    Raises:
        CriticError: if it cannot be loaded here, saying what to do.
    """

    def __init__(self, source: ModelSource, device: torch.device, dtype: torch.dtype) -> None:
        import transformers

        self.model = f"{source.model}@{source.version}"
        self._name = f"hf:{self.model}"
        folder = source.folder()
        self._processor: Any
        self._model: Any
        try:
            self._processor = _load_processor(transformers, source, str(folder))
            self._system_role = knows_system_role(self._render)
            with _quiet(transformers):
                self._model = transformers.AutoModelForImageTextToText.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=dtype
                )
            self._model.to(device).eval()
        except CriticError as error:
            raise CriticError(f"{self._name}: {error}") from None
        except (ImportError, AttributeError) as error:
            raise CriticError(
                f"{self._name}: its processor needs more than is installed ({_line(error)}); many need "
                "torchvision, SmolVLM2 also num2words: pip install torchvision num2words"
            ) from None
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RuntimeError,
            MemoryError,
            SafetensorError,
        ) as error:
            if is_out_of_memory(error):
                raise CriticError(
                    f"{self._name}: its weights do not fit into the memory of {device} as {dtype}; choose a "
                    "smaller model, critique.dtype bfloat16, or another critique.device"
                ) from None
            raise CriticError(f"{self._name}: it cannot be loaded from {folder}: {_line(error)}") from None
        tokenizer = self._processor.tokenizer
        tokenizer.padding_side = "left"  # answers start where prompts end
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._control_tokens = _control_tokens(self._processor)
        self._context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)

    def answer(self, questions: Sequence[Question], stop: threading.Event) -> list[Reply | AnswerFailed]:
        """Answer questions of one stage with the same parameters together, greedily unless temperature > 0.

        A row of a batch is what it would be alone, up to the rounding of the number format: prompts are
        padded on the left and the padding is masked.

        Args:
            questions: any number.
            stop: once it is set, generation ends at the next token, and what is unfinished has failed.

        Returns:
            A reply for each question, or why it has none.
        """
        if not questions:
            return []
        started = time.perf_counter()
        try:
            prompts = self._read(questions)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            failed = AnswerFailed(f"{self._name}: its processor rejects the question: {_line(error)}")
            return [failed] * len(questions)
        fits = [self._context is None or n < self._context for n in prompts.tokens]
        if not all(fits):
            answered = iter(self.answer([q for q, fit in zip(questions, fits, strict=True) if fit], stop))
            return [
                next(answered)
                if fit
                else AnswerFailed(
                    f"{self._name}: the question has {n} tokens, more than the model's context of "
                    f"{self._context}; choose a model with a longer one"
                )
                for fit, n in zip(fits, prompts.tokens, strict=True)
            ]
        parameters = questions[0].parameters
        limit = int(parameters.get("max_tokens", _LONGEST))
        room = limit if self._context is None else min(limit, self._context - max(prompts.tokens))
        try:
            generated = self._generate(prompts.inputs, parameters, room, stop)
        except (ValueError, TypeError, IndexError, KeyError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            return [AnswerFailed(f"{self._name}: the model failed: {_line(error)}")] * len(questions)
        seconds = time.perf_counter() - started
        cut = (
            f"the answer was cut off at max_tokens = {limit}; raise it"
            if room == limit
            else f"the answer was cut off at the end of the model's context of {self._context} tokens"
        )
        return [
            self._reply(question, row, asked, cut, seconds, stopped=stop.is_set())
            for question, row, asked in zip(questions, generated, prompts.tokens, strict=True)
        ]

    def _render(self, messages: Sequence[Message]) -> str:
        text: str = self._processor.apply_chat_template(list(messages), add_generation_prompt=True)
        return text

    def _read(self, questions: Sequence[Question]) -> _Prompts:
        chats = [
            conversation(question, system_role=self._system_role, control_tokens=self._control_tokens)
            for question in questions
        ]
        inputs = self._processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self._model.device, dtype=self._model.dtype)
        return _Prompts(inputs, inputs["attention_mask"].sum(dim=1).tolist())

    def _generate(
        self, inputs: Mapping[str, Tensor], parameters: Mapping[str, Any], room: int, stop: threading.Event
    ) -> Tensor:
        """The new tokens, (n, T) int64."""
        from transformers import GenerationConfig

        temperature = float(parameters.get("temperature", 0))
        # The model's own settings say how it ends a turn; how it samples is the question's to say.
        settings = self._model.generation_config.to_dict() | {
            "do_sample": temperature > 0,
            "temperature": temperature or None,
            "top_p": parameters.get("top_p") if temperature > 0 else None,
            "top_k": None,
            "max_new_tokens": room,
            "max_length": None,
            "pad_token_id": self._processor.tokenizer.pad_token_id,
        }
        width = inputs["input_ids"].shape[1]

        def stopped(ids: Tensor, _scores: object, **_rest: object) -> Tensor:
            return torch.full((len(ids),), stop.is_set(), device=ids.device)

        with torch.inference_mode(), torch.random.fork_rng(self._cuda()):
            if "seed" in parameters:
                torch.manual_seed(int(parameters["seed"]))
            ids: Tensor = self._model.generate(
                **inputs,
                generation_config=GenerationConfig.from_dict(settings),
                stopping_criteria=[stopped],
            )
        return ids[:, width:].cpu()

    def _cuda(self) -> list[torch.device]:
        return [self._model.device] if self._model.device.type == "cuda" else []

    def _reply(
        self, question: Question, row: Tensor, asked: int, cut: str, seconds: float, *, stopped: bool
    ) -> Reply | AnswerFailed:
        ends = self._model.generation_config.eos_token_id
        ends = torch.tensor([] if ends is None else ends).flatten()
        at_end = torch.isin(row, ends).nonzero()
        complete = len(at_end) > 0
        if stopped and not complete:
            return AnswerFailed(f"{self._name}: stopped before the answer was complete")
        count = int(at_end[0]) + 1 if complete else len(row)
        text = self._processor.tokenizer.decode(
            row[:count], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        problem = "" if complete else cut
        if not text.strip():
            problem = problem or "the answer is empty"
        return Reply(as_text(text), self.model, asked, count, 0.0, seconds, problem, self._note(question))

    def _note(self, question: Question) -> str:
        ignored = [f"{k} = {v}" for k, v in sorted(question.parameters.items()) if k not in _READ]
        notes = [f"asked without {', '.join(ignored)}: not known here"] if ignored else []
        notes += [_NO_SCHEMA] if question.schema is not None else []
        notes += [] if self._system_role else [_NO_ROLE]
        words = question.system + question.prompt
        notes += [_DISARMED] if disarm(words, self._control_tokens) != words else []
        return "; ".join(notes)


def _load_processor(transformers: Any, source: ModelSource, folder: str) -> Any:
    """The model's processor; without torchvision, and where it allows, without its part for videos."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    how = {"local_files_only": True, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(folder, **how)
    known: Any = PROCESSOR_MAPPING.get(type(config), None)
    if known is not None and "video_processor" in known.get_attributes() and find_spec("torchvision") is None:
        _log.info("hf:%s: torchvision is missing, so its processor is loaded without videos", source.model)
        kept = [name for name in known.get_attributes() if name != "video_processor"]
        known = type(known.__name__, (known,), {"get_attributes": classmethod(lambda _: kept)})
        processor = known.from_pretrained(folder, **how)
    else:
        processor = transformers.AutoProcessor.from_pretrained(folder, **how)
    if not getattr(processor, "chat_template", None):
        raise CriticError("it has no chat template; choose an instruction-tuned model")
    return processor


def _control_tokens(processor: Any) -> frozenset[str]:
    tokenizer = processor.tokenizer
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    placeholders = {str(getattr(processor, f"{kind}_token", "")) for kind in ("image", "video")}
    return frozenset(
        token for token in {*added, *tokenizer.all_special_tokens, *placeholders} if len(token) > 1
    )


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No progress bar of transformers': it would tear up the console's."""
    logging_of_theirs = transformers.utils.logging
    shown = logging_of_theirs.is_progress_bar_enabled()
    logging_of_theirs.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging_of_theirs.enable_progress_bar()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
