"""Tokenizing on the asking side: the same as the worker's engine, without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from producer import tokenizing
from producer.client import Client
from storage.contract.errors import EmbedmillError, InvalidOption, TokenizerMissing, TooLarge, UnknownModel
from storage.contract.ids import new_id
from storage.contract.models import DEFAULT_MODEL
from storage.contract.settings import Settings
from tests.models import add_layout, make_model, write_json
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.jsonfile import read_object
from worker.engine.tokenizing import Tokenizer

TEXTS = ["Unaffable millers don't grind 磨坊在河边。", "a", "", "river " * 200, "naïve café\u0301 \x00 𝕊"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of an embedded database in which the default model is registered."""
    folder = tmp_path_factory.mktemp("data")
    with Client(settings=Settings.load(data_dir=folder, max_text_bytes=4_000)) as client:
        register(client, resolve(DEFAULT_MODEL))
        yield client


def register(client: Client, checkpoint: Checkpoint) -> Tokenizer:
    """Register a checkpoint as its worker does; return the worker's tokenizer."""
    tokenizer = Tokenizer(checkpoint)
    card = checkpoint.card("float32")
    client.stores.workers.register(card, new_id(), "millhouse", 4711, "cpu", tokenizer=tokenizer.to_file())
    return tokenizer


def folder_of(path: Path, kind: str, **settings: object) -> Checkpoint:
    """Make a model with settings of its tokenizer's own."""
    make_model(path, kind, hidden=64, layers=1)
    write_json(path / "tokenizer_config.json", read_object(path / "tokenizer_config.json") | settings)
    return resolve(str(path))


@pytest.mark.parametrize("padding", ["longest", "max_length"])
@pytest.mark.parametrize("max_length", [None, 3, 8])
def test_a_text_is_shown_as_the_worker_shows_it(client: Client, max_length: int | None, padding: str) -> None:
    checkpoint = resolve(DEFAULT_MODEL)
    for text in TEXTS:
        card, shown = tokenizing.describe(client, text, max_length=max_length, padding=padding)
        assert shown == Tokenizer(checkpoint).describe(text, max_length or checkpoint.max_length, padding)
        assert card.name == DEFAULT_MODEL


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: folder_of(path, "bert", truncation_side="left", padding_side="left"), id="left"),
        pytest.param(lambda path: folder_of(path, "bert", do_lower_case=False), id="overruled by its configuration"),
        pytest.param(lambda path: folder_of(path, "roberta"), id="bytes"),
        pytest.param(lambda path: lower_cased(path), id="lower-cased first"),
        pytest.param(lambda path: only_a_vocabulary(path), id="only a vocabulary"),
        pytest.param(lambda path: with_rules_of_its_own(path), id="truncation and padding of its own"),
    ],
)
def test_every_kind_of_tokenizer_comes_through_storage_unchanged(
    client: Client, tmp_path: Path, make: Callable[[Path], Checkpoint]
) -> None:
    # Given a model that a worker has registered
    checkpoint = make(tmp_path / "model")
    workers = register(client, checkpoint)
    # When texts are shown on the asking side, then they are shown as on the worker's
    for text in ["River MILL wheel stone grain flour 我 Unaffable", "", "mill"]:
        for padding in ("longest", "max_length"):
            _, shown = tokenizing.describe(client, text, model=checkpoint.name, max_length=6, padding=padding)
            assert shown == workers.describe(text, 6, padding)


def test_the_prompt_of_a_job_is_put_before_the_text(client: Client, tmp_path: Path) -> None:
    # Given a model with a prompt of its own, which a worker has registered
    folder = make_model(tmp_path / "model", "bert", hidden=64, layers=1)
    add_layout(folder, prompts={"query": "river ", "none": ""}, default_prompt_name="query")
    workers = register(client, resolve(str(folder)))
    # When a text is shown, then its prompt is before it, or the one that was asked for
    for asked, text in (
        ({}, "river mill"),
        ({"prompt": "wheel "}, "wheel mill"),
        ({"prompt_name": "none"}, "mill"),
        ({"prompt": ""}, "mill"),
    ):
        _, shown = tokenizing.describe(client, "mill", model=str(folder), **asked)
        assert shown == workers.describe(text, 512)
    with pytest.raises(InvalidOption, match="no prompt named 'passage'"):
        tokenizing.describe(client, "mill", model=str(folder), prompt_name="passage")


def lower_cased(path: Path) -> Checkpoint:
    make_model(path, "roberta", hidden=64, layers=1)
    add_layout(path, settings={"max_seq_length": 64, "do_lower_case": True})
    return resolve(str(path))


def only_a_vocabulary(path: Path) -> Checkpoint:
    make_model(path, "bert", hidden=64, layers=1)
    vocabulary = read_object(path / "tokenizer.json")["model"]["vocab"]
    (path / "tokenizer.json").unlink()
    (path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
    return resolve(str(path))


def with_rules_of_its_own(path: Path) -> Checkpoint:
    from tokenizers import Tokenizer as File

    make_model(path, "bert", hidden=64, layers=1)
    file = File.from_file(str(path / "tokenizer.json"))
    file.enable_truncation(4)
    file.enable_padding(length=20)
    file.save(str(path / "tokenizer.json"))
    return resolve(str(path))


def test_encodings_and_texts_go_both_ways(client: Client) -> None:
    found = tokenizing.tokenizer_of(client)
    (encoding,) = found.encode(["the miller"])
    assert encoding.tokens == ["[CLS]", "the", "miller", "[SEP]"]
    assert found.decode([encoding.ids]) == ["the miller"]
    assert found.decode([encoding.ids], skip_special_tokens=False) == ["[CLS] the miller [SEP]"]
    assert found.encode(["the miller"], add_special_tokens=False)[0].tokens == ["the", "miller"]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        pytest.param({"text": "x", "model": "mill/unheard-of"}, UnknownModel, id="unknown model"),
        pytest.param({"text": "x", "model": "a\0b"}, InvalidOption, id="NUL in the model's name"),
        pytest.param({"text": "x", "max_length": 100_000}, InvalidOption, id="more than the model reads"),
        pytest.param({"text": "x", "max_length": 2}, InvalidOption, id="no room for a piece"),
        pytest.param({"text": "x", "padding": "cotton"}, InvalidOption, id="unknown padding"),
        pytest.param({"text": "secret \ud800"}, InvalidOption, id="lone surrogate"),
        pytest.param({"text": "secret " * 1_000}, TooLarge, id="too long"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_not_repeated(
    client: Client, given: dict[str, str], kind: type[EmbedmillError]
) -> None:
    with pytest.raises(kind) as refused:
        tokenizing.describe(client, **given)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("ids", [[[-1]], [[1 << 40]], [[101, 4_000_000]]])
def test_ids_that_no_token_has_are_refused(client: Client, ids: list[list[int]]) -> None:
    with pytest.raises(InvalidOption, match="no token"):
        tokenizing.tokenizer_of(client).decode(ids)


def test_a_default_model_that_nobody_has_served_yet_has_no_tokenizer(tmp_path: Path) -> None:
    with Client(data_dir=tmp_path) as client, pytest.raises(TokenizerMissing, match="Start one"):
        tokenizing.describe(client, "river")


def test_a_model_that_is_registered_anew_is_tokenized_anew_and_few_are_held(client: Client, tmp_path: Path) -> None:
    # Given more models than are held, each asked for twice
    checkpoints = [folder_of(tmp_path / str(n), "bert", padding_side=("left", "right")[n % 2]) for n in range(2)]
    for checkpoint in checkpoints * 2:
        workers = register(client, checkpoint)
        for _ in range(2):
            _, shown = tokenizing.describe(client, "mill", model=checkpoint.name, max_length=6, padding="max_length")
            assert shown == workers.describe("mill", 6, "max_length")
    # When one of them is registered with other rules
    file = register(client, checkpoints[0]).to_file()
    changed = replace(file, rules=replace(file.rules, pad_left=False))
    card = checkpoints[0].card("float32")
    client.stores.workers.register(card, new_id(), "millhouse", 4711, "cpu", tokenizer=changed)
    # Then these hold at once
    _, shown = tokenizing.describe(client, "mill", model=card.name, max_length=6, padding="max_length")
    assert shown.mask == [1, 1, 1, 0, 0, 0]
    assert len(tokenizing._held._built) <= tokenizing.MOST_HELD


def test_threads_share_one_tokenizer(client: Client) -> None:
    expected = tokenizing.describe(client, TEXTS[0])
    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(lambda _: tokenizing.describe(client, TEXTS[0]), range(40)))


def test_looking_at_tokens_imports_no_torch(client: Client) -> None:
    program = """
import sys
from producer import tokenizing
from producer.client import Client
with Client(data_dir=sys.argv[1]) as client:
    print(tokenizing.describe(client, "river")[1].pieces)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "transformers", "worker", "fastapi"}))
"""
    command = [sys.executable, "-c", program, str(client.settings.data_dir)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["['[CLS]', 'river', '[SEP]']", "[]"]
