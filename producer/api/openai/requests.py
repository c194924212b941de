"""What may stand in the body of an embeddings request, sent by itself or as a line of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from storage.contract.errors import InvalidField
from storage.contract.options import JobOptions, check_word

#: Most inputs of one request.
MAX_INPUTS = 2048

#: Fields of OpenAI's own that say nothing about the vectors.
_IGNORED = ("user",)

_OWN = ("input", "model", "encoding_format", "revision", *_IGNORED)
_OPTIONS = tuple(JobOptions.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """One request for vectors.

    Args:
        texts: Its inputs, not judged yet but for their number and that they are no token ids.
        model: The name of the model, or None for the default.
        revision: The model's revision, or None.
        base64: Whether vectors are told as base64 of little-endian float32.
        options: How the texts are embedded.
    """

    texts: Sequence[object]
    model: str | None
    revision: str | None
    base64: bool
    options: JobOptions


def parse(body: Mapping[str, Any]) -> EmbeddingRequest:
    """Return the request that a JSON object is.

    Args:
        body: The object.

    Raises:
        InvalidField: When a field is missing, unknown or not usable.
        InvalidOption: When an option is not allowed.
    """
    unknown = sorted(set(body) - {*_OWN, *_OPTIONS})
    if unknown:
        raise InvalidField(
            unknown[0][:80].encode("ascii", "replace").decode(),
            "The request has a field that is not known.",
            f"Known are {', '.join((*_OWN, *_OPTIONS))}.",
        )
    encoding = body.get("encoding_format")
    if encoding not in (None, "float", "base64"):
        raise InvalidField("encoding_format", "encoding_format must be float or base64.")
    for word in ("model", "revision", "user"):
        check_word(word, body.get(word))
    options = JobOptions.from_dict({name: body[name] for name in _OPTIONS if body.get(name) is not None})
    options.check_pooled()
    if options.normalize is None:
        # OpenAI's vectors have length 1, and its clients rank by their dot product, whatever a model's files say.
        options = replace(options, normalize=True)
    return EmbeddingRequest(
        texts=_texts(body.get("input")),
        model=body.get("model"),
        revision=body.get("revision"),
        base64=encoding == "base64",
        options=options,
    )


def _texts(given: object) -> Sequence[object]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise InvalidField("input", "input must be a text, or a list of at least one text.")
    if len(given) > MAX_INPUTS:
        raise InvalidField(
            "input", f"input has {len(given)} texts, more than {MAX_INPUTS}.", "Split it, or submit a job or a batch."
        )
    if any(type(one) in (int, list) for one in given):
        raise InvalidField(
            "input",
            "input is token ids, which are those of another model's tokenizer.",
            "Send texts; in LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False).",
        )
    return given
