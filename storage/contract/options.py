"""The options of a job: what becomes of its texts on the way to vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from storage.contract.errors import InvalidOption
from storage.contract.models import ModelCard

POOLINGS = ("mean", "cls", "max", "last")

#: The states of a text's tokens as they are. Only a call may ask for them: a job keeps one row an item.
NO_POOLING = "none"

PADDINGS = ("longest", "max_length")
ON_LONG = ("truncate", "error")
STORE_DTYPES = ("float32", "float16")

#: Fewest tokens a text may be cut to: one start token, one piece, one end token.
MIN_MAX_LENGTH = 3

#: Longest word that an error repeats, in characters.
_LONGEST_WORD = 40


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How the texts of one job are embedded; None leaves the choice to the model's own files.

    Args:
        pooling: How token states become one vector: `mean`, `cls`, `max` or `last`; of a call also `none`: they do not.
        normalize: Whether vectors are scaled to length 1.
        layer: Which hidden states are pooled: -1 the last layer, 0 the embedding layer's output, n the n-th layer's.
        max_length: Most tokens of a text, special tokens included.
        padding: `longest` pads a batch to its longest text; `max_length` is the classic reference mode.
        on_long: `truncate` cuts a text at `max_length` and marks it; `error` makes it that item's error.
        prompt: Put before every text.
        prompt_name: Names one of the model's own prompts instead.
        dimensions: Keep only the first so many components, renormalised (Matryoshka, arXiv 2205.13147).
        store_dtype: `float32` or `float16`: what is kept.
        deterministic: Whether each chunk is embedded without company, in batches that follow from its texts alone: the
            same texts in the same order then have the same vectors, bit for bit, on the same processor or GPU with the
            same versions and token budget. Costs some speed where chunks are small.

    Raises:
        InvalidOption: When a value is not allowed for any model.
    """

    pooling: str | None = None
    normalize: bool | None = None
    layer: int = -1
    max_length: int | None = None
    padding: str = "longest"
    on_long: str = "truncate"
    prompt: str | None = None
    prompt_name: str | None = None
    dimensions: int | None = None
    store_dtype: str = "float32"
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.pooling != NO_POOLING:
            _check_choice("pooling", self.pooling, POOLINGS, optional=True)
        elif self.normalize or self.dimensions is not None:
            raise InvalidOption("States of tokens are neither normalised nor cut: leave out normalize and dimensions.")
        _check_choice("padding", self.padding, PADDINGS)
        _check_choice("on_long", self.on_long, ON_LONG)
        _check_choice("store_dtype", self.store_dtype, STORE_DTYPES)
        if self.normalize is not None and not isinstance(self.normalize, bool):
            raise InvalidOption(f"normalize must be true or false, not {shown(self.normalize)}.")
        if not isinstance(self.deterministic, bool):
            raise InvalidOption(f"deterministic must be true or false, not {shown(self.deterministic)}.")
        _check_integer("layer", self.layer, least=-1)
        _check_integer("max_length", self.max_length, least=MIN_MAX_LENGTH, optional=True)
        _check_integer("dimensions", self.dimensions, least=1, optional=True)
        check_text("prompt", self.prompt)
        check_text("prompt_name", self.prompt_name)
        if self.prompt is not None and self.prompt_name is not None:
            raise InvalidOption("prompt and prompt_name were both given.", "Give only one of them.")

    def check_pooled(self) -> None:
        """Refuse what makes more than one vector of a text.

        Raises:
            InvalidOption: When there is no pooling.
        """
        if self.pooling == NO_POOLING:
            raise InvalidOption(
                f"pooling must be one of {', '.join(POOLINGS)}, not {NO_POOLING!r}: one vector a text is kept.",
                "The states of single tokens are what POST /embed_all answers.",
            )

    def check_against(self, card: ModelCard) -> None:
        """Check what only the model can tell.

        Args:
            card: The model that is to do the job.

        Raises:
            InvalidOption: When the model has fewer dimensions, layers or positions, or no prompt of that name.
        """
        if self.dimensions is not None and self.dimensions > card.width:
            raise InvalidOption(f"dimensions is {self.dimensions}, but {card.name} has {card.width}.")
        if self.max_length is not None and self.max_length > card.max_length:
            raise InvalidOption(f"max_length is {self.max_length}, but {card.name} reads at most {card.max_length}.")
        if self.layer > card.layers:
            raise InvalidOption(f"layer is {self.layer}, but {card.name} has {card.layers} layers (0..{card.layers}).")
        if self.prompt_name is not None and self.prompt_name not in card.prompts:
            known = ", ".join(sorted(card.prompts)) or "none"
            raise InvalidOption(f"{card.name} has no prompt named {shown(self.prompt_name)} (it has: {known}).")

    def prompt_for(self, card: ModelCard) -> str:
        """Return what is put before every text: what was given, else the model's own, else nothing.

        Args:
            card: The model, against which these options were checked.
        """
        if self.prompt is not None:
            return self.prompt
        name = self.prompt_name or card.default_prompt_name
        return card.prompts[name] if name is not None else ""

    def kept_for(self, card: ModelCard | None) -> JobOptions:
        """Return the options as a job keeps them: an empty prompt of the model's as the empty prompt.

        Every model has `query` and `document`; workers of the version before know only those that its files name.

        Args:
            card: The model, against which these options were checked; None while it is unknown.
        """
        if card is None or self.prompt_name is None or card.prompts.get(self.prompt_name) != "":
            return self
        return replace(self, prompt="", prompt_name=None)

    def width(self, card: ModelCard) -> int:
        """Return how many components a vector of this job has."""
        return card.states_width if self.pooling == NO_POOLING else self.dimensions or card.width

    def to_dict(self) -> dict[str, Any]:
        """Return the options as a JSON object with every option named.

        But for one that is younger than others and not asked for: workers of the version before would refuse the job.
        """
        named = asdict(self)
        if not self.deterministic:
            del named["deterministic"]
        return named

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JobOptions:
        """Return the options in a JSON object.

        Raises:
            InvalidOption: When an option is unknown or its value is not allowed.
        """
        if not isinstance(data, dict):
            raise InvalidOption("The options are no JSON object.")
        unknown = sorted(set(data) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise InvalidOption(f"Unknown option: {', '.join(unknown)}.", f"The options are: {known}.")
        return cls(**data)


def check_word(name: str, value: object) -> None:
    """Check a name that both databases must be able to keep and compare.

    Args:
        name: What it is, for the message.
        value: The name, or None.

    Raises:
        InvalidOption: When it is no string, or holds a NUL (PostgreSQL keeps none) or a lone surrogate.
    """
    check_text(name, value)
    if isinstance(value, str) and "\0" in value:
        raise InvalidOption(f"{name} holds a NUL character.")


def shown(value: object) -> str:
    """Return a value that is refused as it may be told: a word or a number as it is, of all else only what it is.

    A text that was put in the wrong place would else be in an error.
    """
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str) and len(value) <= _LONGEST_WORD and not any(map(str.isspace, value)):
        return repr(value)
    return f"this {type(value).__name__}"


def _check_choice(name: str, value: object, allowed: tuple[str, ...], optional: bool = False) -> None:
    if value is None and optional:
        return
    if value not in allowed:
        raise InvalidOption(f"{name} must be one of {', '.join(allowed)}, not {shown(value)}.")


def _check_integer(name: str, value: object, least: int, optional: bool = False) -> None:
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidOption(f"{name} must be a whole number of at least {least}, not {shown(value)}.")


def check_text(name: str, value: object) -> None:
    """Check a text that goes over the wire, or into a database, as UTF-8.

    Args:
        name: What it is, for the message.
        value: The text, or None.

    Raises:
        InvalidOption: When it is no string, or holds a lone surrogate.
    """
    if value is None:
        return
    if not isinstance(value, str):
        raise InvalidOption(f"{name} must be a text, not {type(value).__name__}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidOption(f"{name} holds a lone surrogate at character {error.start}.") from error
