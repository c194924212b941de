"""Exports: every family's, made once, checked at each start, made again when damaged, done without when they fail."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storage.contract.errors import ModelRefused
from storage.contract.options import JobOptions
from tests.engine.openvino.conftest import MakeEngine, long_form
from tests.engine.watched import TEXTS, in_thread
from tests.models import FAMILIES, make_model
from worker.engine.checkpoint import Checkpoint, resolve
from worker.engine.engine import Engine
from worker.engine.openvino import cache
from worker.engine.openvino.export import FACTS, MODEL, WEIGHTS, Facts, export
from worker.engine.openvino.texts import built_in

#: Families of the same build as one of these are left out.
BUILDS = [kind for kind in FAMILIES if kind not in ("bert", "camembert", "electra", "xlm-roberta")]


def exports_told(caplog: pytest.LogCaptureFixture) -> int:
    """How often the log says that an export is made."""
    return sum("for OpenVINO, once for" in record.getMessage() for record in caplog.records)


def kept(cache_folder: Path, kind: str) -> Path:
    """The tiny model's export of a kind."""
    return next(path for path in cache_folder.glob(f"tiny*-{kind}-*") if path.is_dir())


@pytest.mark.parametrize("kind", BUILDS)
def test_every_build_of_network_is_exported_as_it_is(tmp_path: Path, kind: str) -> None:
    # Given a model of some family
    model = resolve(str(make_model(tmp_path / "model", kind, hidden=64, layers=2)))
    # When it is exported, which compares its vectors with the network's own
    (tmp_path / "export").mkdir()
    facts = export(model, "float", tmp_path / "export")
    # Then the export and what is known of it are there
    assert facts == Facts.read(tmp_path / "export")
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == sorted((FACTS, MODEL, WEIGHTS))


def test_an_export_is_made_once(
    make: MakeEngine, cache_folder: Path, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    # Given an export
    caplog.set_level(logging.INFO)
    shutil.rmtree(cache_folder, ignore_errors=True)
    # When two engines are started at the same time, and a third later, in another number type
    threads = [in_thread(lambda: make("float32")) for _ in range(2)]
    for thread in threads:
        thread.join(100)
    make("bfloat16")
    # Then it was made once, and nothing else is left of the making
    assert exports_told(caplog) == 1
    assert sorted(path.suffix for path in cache_folder.iterdir()) == ["", ".lock"]


@long_form
def test_a_damaged_export_is_made_again(
    make: MakeEngine, engine: Engine, cache_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given an export one bit of which has changed on the disk
    caplog.set_level(logging.INFO)
    make("float32")
    weights = kept(cache_folder, "float") / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    caplog.clear()
    # When an engine is started
    found = make("float32").embed(TEXTS, JobOptions()).vectors
    # Then it says so and exports again
    assert exports_told(caplog) == 1 and "is damaged" in caplog.text
    np.testing.assert_allclose(found, engine.embed(TEXTS, JobOptions()).vectors, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [FACTS, MODEL, WEIGHTS])
@pytest.mark.parametrize(
    "damage", [None, b"", b"{}", b'{"vocabulary": 5, "padding": 0, "nearness": [], "digests": {}}']
)
def test_whatever_is_damaged_is_found(
    make: MakeEngine, cache_folder: Path, tmp_path: Path, name: str, damage: bytes | None
) -> None:
    # Given a whole export, of which one file is then missing or holds something else
    make("float32")
    folder = Path(shutil.copytree(kept(cache_folder, "float"), tmp_path / "export"))
    assert cache._kept(folder) is not None
    if damage is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(damage)
    # Then it does not count
    assert cache._kept(folder) is None


def test_other_versions_and_processors_have_exports_of_their_own(checkpoint: Checkpoint) -> None:
    changed = dataclasses.replace(checkpoint, revision="another")
    keys = [
        cache._key(checkpoint, "float", "some processor"),
        cache._key(checkpoint, "int8", "some processor"),
        cache._key(checkpoint, "float", "another processor"),
        cache._key(changed, "float", "some processor"),
    ]
    assert len(set(keys)) == 4


@long_form
def test_without_a_cache_folder_the_export_lasts_as_long_as_the_process(
    make: MakeEngine, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a cache folder that cannot be made
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    # When an engine is started, then it works all the same, and says why the next start will take as long
    found = make("float32").embed(TEXTS, JobOptions()).vectors
    assert "the export is not kept" in caplog.text
    np.testing.assert_allclose(found, engine.embed(TEXTS, JobOptions()).vectors, atol=1e-5, rtol=0)


@long_form
def test_what_openvino_cannot_compute_torch_computes_but_for_int8(
    make: MakeEngine, checkpoint: Checkpoint, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a model whose export fails: its folder does not hold the revision that it is said to be
    unfit = dataclasses.replace(checkpoint, revision="0" * 40)
    # When an engine is started, then torch computes, and the log says why
    found = make("float32", unfit).embed(TEXTS, JobOptions()).vectors
    assert "torch computes" in caplog.text and "is revision" in caplog.text
    np.testing.assert_allclose(found, engine.embed(TEXTS, JobOptions()).vectors, atol=1e-5, rtol=0)
    # And int8, which torch does not compute, is refused
    with pytest.raises(ModelRefused, match="OpenVINO cannot compute"):
        make("int8", unfit)


def test_an_export_ends_with_the_process_that_wanted_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    # Given an export whose parent's end of the line is closed
    command = [sys.executable, "-P", "-m", "worker.engine.openvino.export"]
    command += [checkpoint.name, checkpoint.revision, "float", str(tmp_path)]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=100)
    # Then it ends at once and leaves nothing
    assert ran.returncode == 1 and not list(tmp_path.iterdir())


def test_the_loss_is_measured_on_sentences_that_nothing_was_learnt_from() -> None:
    # Given the built-in texts, then the two sets have no sentence in common, and cover many scripts
    texts = built_in()
    learnt = " ".join(texts.calibration)
    assert not [text for text in texts.held_out if len(text) > 20 and text in learnt]
    assert all(any(first <= sign <= last for sign in learnt) for first, last in ("az", "ая", "一龥", "가힣", "ぁん"))


@long_form
def test_the_loss_is_kept_with_the_export(make: MakeEngine, cache_folder: Path) -> None:
    make("int8")
    facts = json.loads((kept(cache_folder, "int8") / FACTS).read_text())
    assert 0.9 < facts["nearness"]["int8"]["least"] <= facts["nearness"]["int8"]["mean"] < 1


#: Threads that make their first tensors at once; ends with an error when they are not done soon.
_FIRST_TENSORS = """
import faulthandler, sys, threading
faulthandler.dump_traceback_later(20, exit=True)
from worker.engine.openvino.installed import openvino
library = openvino()
sys.setswitchinterval(1e-6)
together = threading.Barrier(4)
def first():
    together.wait()
    library.Type.i64.to_dtype()
threads = [threading.Thread(target=first) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_threads_that_use_openvino_first_at_the_same_moment_do_not_wait_for_each_other_for_ever() -> None:
    for _ in range(3):
        subprocess.run([sys.executable, "-c", _FIRST_TENSORS], check=True, timeout=60)
