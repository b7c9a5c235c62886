"""Files of a run that were edited, damaged or swapped: told by name, or made anew; never taken silently."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lvlm_va
import small
from lvlm_va.errors import LvlmVaError, RunError
from lvlm_va.report import record
from lvlm_va.report.write import write_report
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory
from report_run import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_run(tmp_path_factory.mktemp("damaged") / "run")


def read_everything(path: Path) -> None:
    found = RunDirectory.read(path)
    assert found.settings.align.mask in ("segment", "component", "attribution", "objects")
    assert all(isinstance(stage.seconds, float) for stage in found.stages.values())
    record.read_metrics(found)
    images = record.read_images(found)
    record.read_masks(found, images)
    record.read_judged(found)
    record.read_explanations(found)


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, as the keys that lead there."""
    if before:
        yield before
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*before, key))


WRONG = st.sampled_from([None, "x", "", -1, 1e300, True, [], {}, [None], {"x": 1}, [[["deep"]]]])


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_edited_record_is_read_or_told_by_name(run: RunDirectory, name: str, data: st.DataObject) -> None:
    file = run.file(name)
    before = file.read_bytes()
    document = json.loads(before)
    place = data.draw(st.sampled_from(list(places(document))))
    changed = copy.deepcopy(document)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if data.draw(st.booleans()):
        inner[place[-1]] = data.draw(WRONG)
    else:
        del inner[place[-1]]
    told = name
    try:
        file.write_text(json.dumps(changed))
        read_everything(run.path)
    except RunError as error:
        told = str(error)
    finally:
        file.write_bytes(before)
    assert name in told or str(run.path) in told
    read_everything(run.path)


def damaged(name: str, content: bytes) -> list[bytes]:
    """Cut off, empty, other bytes, and with one tensor or note left out, of another type or shape."""
    variants = [b"", content[: len(content) // 2], b"\x00" * 64, b"not a tensor file"]
    if name.endswith(".safetensors"):
        tensors, notes = TENSORS[name]
        for key, tensor in tensors.items():
            for other in (None, tensor[:1], tensor.flatten()[:0], torch.zeros(3, 5, 7) - 9):
                changed = {k: v for k, v in tensors.items() if k != key}
                if other is not None:
                    changed[key] = other
                variants.append(artefacts.tensors_file(changed, **notes))
        variants += [
            artefacts.tensors_file(tensors, **{k: v for k, v in notes.items() if k != key} | {key: wrong})
            for key in notes
            for wrong in (None, 5, [], {"9": "x"}, ["a"])
        ]
    return variants


TENSORS: dict[str, Any] = {}


@pytest.mark.parametrize(
    "name",
    [
        "segments/images.safetensors",
        "segments/attribution.safetensors",
        "segments/segments.safetensors",
        "segments/masks.safetensors",
        "explanations.safetensors",
        "verdicts.csv",
        "critic_verdicts.csv",
    ],
)
def test_a_damaged_file_is_told_by_name(run: RunDirectory, name: str) -> None:
    file = run.file(name)
    before = file.read_bytes()
    if name.endswith(".safetensors"):
        TENSORS[name] = artefacts.read_tensors(file)
    told: list[str] = []
    try:
        for content in damaged(name, before):
            file.write_bytes(content)
            try:
                read_everything(run.path)
            except RunError as error:
                told.append(str(error))
        file.unlink()
        with pytest.raises(RunError, match=file.name.replace(".", r"\.")):
            read_everything(run.path)
    finally:
        file.write_bytes(before)
    assert all(str(run.path) in sentence for sentence in told)
    assert len(told) >= 3, "of files that are no such file at all"
    read_everything(run.path)


def test_the_report_says_which_setting_of_the_record_cannot_be(run: RunDirectory) -> None:
    file = run.file("run.json")
    before = file.read_bytes()
    document = json.loads(before)
    try:
        for key, value, told in (
            ("mask", "all of it", "align.mask"),
            ("counterfactual", "much", "align.counterfactual"),
        ):
            wrong = document["config"] | {"align": document["config"]["align"] | {key: value}}
            file.write_text(json.dumps(document | {"config": wrong}))
            with RunDirectory.open(run.path) as found, pytest.raises(RunError, match=f"run.json: {told}"):
                write_report(found)
        stage = {"fingerprint": "x", "seconds": "long", "peak_gib": None, "summary": {}}
        file.write_text(json.dumps(document | {"stages": {"train": stage}}))
        with pytest.raises(RunError, match=r"damaged \(stages\.train\.seconds"):
            RunDirectory.read(run.path)
        assert document["config"]["of a later version"] == "x"
        del document["config"]["align"]
        file.write_text(json.dumps(document))
        assert RunDirectory.read(run.path).settings.align.mask == "segment", "a default where nothing is said"
    finally:
        file.write_bytes(before)


def test_a_sealed_file_is_known_again(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "run", {"project": "k"}) as found:
        found.write("w", b"mine")
        found.seal("w")
        found.check_sealed("w")
        found.check_sealed("another")
    with RunDirectory.open(tmp_path / "run") as found:
        found.check_sealed("w")
        found.file("w").write_bytes(b"other")
        with pytest.raises(RunError, match="w: is not the file that this run wrote"):
            found.check_sealed("w")
        found.file("w").unlink()
        found.check_sealed("w")


def test_no_report_beside_a_model_that_is_not_the_runs(tmp_path: Path) -> None:
    found = make_run(tmp_path / "run")
    found.write("aligned.safetensors", b"mine")
    found.seal("aligned.safetensors")
    assert write_report(found).exists()
    found.file("aligned.safetensors").write_bytes(b"other")
    with pytest.raises(RunError, match=r"aligned\.safetensors: is not the file that this run wrote"):
        write_report(found)


@pytest.mark.slow
def test_a_model_swapped_inside_a_run_is_noticed_and_a_damaged_one_made_anew(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def align() -> lvlm_va.AlignmentResult:
        changes = {"align__epochs": 1, "explain__num_images": 6, "evaluate__num_images": 4}
        return lvlm_va.align(
            small.trained(), small.splits(), small.SPECIFICATIONS, run=tmp_path / "run", quiet=True,
            settings=small.settings(**changes),
        )  # fmt: skip

    align()
    for name in ("model.safetensors", "aligned.safetensors"):
        file = tmp_path / "run" / name
        before, which = file.read_bytes(), "original" if name.startswith("model") else "aligned"
        save_file({key: value + 1 for key, value in load_file(file).items()}, file)
        with pytest.raises(RunError, match=rf"{name}: is not the file that this run wrote"):
            lvlm_va.export(tmp_path / "run", which=which, model=small.untrained())  # type: ignore[arg-type]
        if which == "original":
            with pytest.raises(RunError, match=rf"{name}: is not the file that this run wrote"):
                align()
        file.write_bytes(before)
        assert lvlm_va.export(tmp_path / "run", which=which, model=small.untrained())  # type: ignore[arg-type]
    (tmp_path / "run/model.safetensors").write_bytes(b"torn")
    with pytest.raises(LvlmVaError):
        lvlm_va.export(tmp_path / "run", which="original", model=small.untrained())
    align()
    assert load_file(tmp_path / "run/model.safetensors")
