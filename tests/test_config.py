"""Project files: what they may say, and what a mistake is told."""

import types
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from lvlm_va.config import loading
from lvlm_va.config.loading import Config, apply_settings, load_config, override, parse_config
from lvlm_va.errors import ConfigError

SECTIONS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}


def message(document: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(document, where="p.yaml")
    return str(caught.value)


def test_every_key_is_described() -> None:
    assert set(SECTIONS) == {"data", "model", "explain", "critique", "align", "evaluate"}
    for section in (Config, *SECTIONS.values()):
        for name, field in section.model_fields.items():
            assert name in SECTIONS or (field.description and len(field.description) > 5), name
            assert not field.is_required(), f"{name} has a default"


def test_an_empty_project_is_the_default() -> None:
    assert parse_config({}) == Config()
    everything = yaml.safe_load(yaml.safe_dump(Config().model_dump(mode="json", by_alias=True)))
    assert parse_config(everything) == Config(), "what a run records can be read again"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"critque": {}}, "p.yaml: unknown key 'critque'; did you mean 'critique'?"),
        ({"data": {"pth": "x"}}, "p.yaml: unknown key 'data.pth'; did you mean 'path'?"),
        ({"model": {"epoch": 1}}, "p.yaml: unknown key 'model.epoch'; did you mean 'epochs'?"),
        ({"explain": {"image": 1}}, "p.yaml: unknown key 'explain.image'; did you mean 'num_images'?"),
        ({"critique": {"critc": "x"}}, "p.yaml: unknown key 'critique.critc'; did you mean 'critic'?"),
        ({"align": {"lamda": 1}}, "p.yaml: unknown key 'align.lamda'; did you mean 'lambda'?"),
        ({"evaluate": {"bound": 1}}, "p.yaml: unknown key 'evaluate.bound'; did you mean 'bounds'?"),
    ],
)
def test_an_unknown_key_names_the_nearest(document: dict[str, Any], told: str) -> None:
    assert message(document) == told


def test_a_key_like_none_lists_what_is_known() -> None:
    told = message({"evaluate": {"zzz": 1}})
    assert all(repr(key) in told or key in told for key in ("images", "bounds", "seed"))


def test_several_mistakes_in_one_message() -> None:
    told = message(
        {"explain": {"num_images": 0, "sampling": "lowst"}, "align": {"lambda": -1}, "seed": 3}
    ).splitlines()
    assert len(told) == 4
    assert all(line.startswith("p.yaml: ") for line in told)
    assert "p.yaml: explain.num_images: Input should be greater than or equal to 1, not 0" in told
    assert any("explain.sampling" in line and "'lowest'" in line and "'lowst'" in line for line in told)
    assert any("none of them negative" in line for line in told)
    assert any("unknown key 'seed'" in line for line in told)


def test_a_key_of_an_older_version_is_told_its_new_name() -> None:
    for old, new in loading._RENAMED.items():
        section, _, key = old.partition(".")
        assert message({section: {key: 1}}) == f"p.yaml: unknown key {old!r}; it is called {new!r} now"
        assert new in SECTIONS[section].model_fields


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"align": None}, "align: is a section"),
        ({"align": 3}, "align: is a section"),
        ({1: 2}, "1: Keys should be strings"),
        ({"project": "../elsewhere"}, "project: "),
        ({"project": ".."}, "project: "),
        ({"align": {"lambda": "much"}}, "align.lambda.0: Input should be a valid number"),
        ({"align": {"lambda": True}}, "align.lambda: "),
        ({"align": {"lambda": []}}, "lambda must be one number or several"),
        ({"align": {"lambda": [0.1, -0.1]}}, "none of them negative"),
        ({"align": {"lambda": float("nan")}}, "finite"),
        ({"align": {"learning_rate": float("inf")}}, "finite"),
        ({"align": {"learning_rate": 0}}, "greater than 0"),
        ({"explain": {"num_images": 2.5}}, "explain.num_images"),
        ({"critique": {"prices": {"m": {"input": "dear"}}}}, "critique.prices.m.input"),
        ({"data": {"name": "mnist"}}, "data.name"),
    ],
)
def test_values_that_cannot_be(document: dict[str, Any], told: str) -> None:
    assert told in message(document)


@pytest.mark.parametrize(
    ("value", "lam"),
    [
        (0.1, (0.1,)),
        (1, (1.0,)),
        ("1e-3", (0.001,)),
        ([0.1, 1], (0.1, 1.0)),
        (["1e-3", 0.1], (0.001, 0.1)),
        ((0, 0.5), (0.0, 0.5)),
    ],
)
def test_forms_of_lambda(value: Any, lam: tuple[float, ...]) -> None:
    assert parse_config({"align": {"lambda": value}}).align.lam == lam
    assert parse_config({"align": {"lam": value}}).align.lam == lam


@pytest.mark.parametrize(
    ("setting", "where", "value"),
    [
        ("align.lambda=1e-3", ("align", "lam"), (0.001,)),
        ("align.lambda=[0.01, 1e-1, 1]", ("align", "lam"), (0.01, 0.1, 1.0)),
        ("critique.max_usd=2.5e-1", ("critique", "max_usd"), 0.25),
        ("critique.max_usd=", ("critique", "max_usd"), None),
        ("critique.critic=openai:gpt-4o", ("critique", "critic"), "openai:gpt-4o"),
        (
            "critique.prices={a.1: {input: 2, output: 8}}",
            ("critique", "prices"),
            {"a.1": {"input": 2, "output": 8}},
        ),
        ("critique.prices.mine.input=1e-1", ("critique", "prices"), {"mine": {"input": 0.1}}),
        (" evaluate.bounds =false", ("evaluate", "bounds"), False),
        ("data.path=/a=b", ("data", "path"), Path("/a=b")),
    ],
)
def test_settings(setting: str, where: tuple[str, str], value: Any) -> None:
    config = parse_config(apply_settings({}, [setting]))
    assert getattr(getattr(config, where[0]), where[1]) == value


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("align.lambda", "write key=value"),
        ("=3", "write key=value"),
        ("align.lambda=[1", "not valid YAML"),
        ("project.name=x", "project is not a section"),
        ("align.lambda.x=1", "lambda is not a section"),
    ],
)
def test_settings_that_cannot_be_read(setting: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        apply_settings({"project": "p", "align": {"lambda": 3}}, [setting])


def test_settings_lie_over_the_document_and_leave_it_alone() -> None:
    document = {"critique": {"critic": "builtin", "prices": {"a": {"input": 1.0}}}, "align": {"epochs": 3}}
    before = yaml.safe_dump(document)
    laid = apply_settings(
        document, ["critique.prices.a.input=2", "align={jitter: 0.1}", "align.epochs=4", "align.epochs=5"]
    )
    assert laid["critique"] == {"critic": "builtin", "prices": {"a": {"input": 2}}}
    assert laid["align"] == {"epochs": 5, "jitter": 0.1}, "a mapping adds to a section; the last one wins"
    assert yaml.safe_dump(document) == before


def test_override_takes_any_value() -> None:
    config = parse_config(
        override({"critique": {"critic": "x"}}, {"data.path": Path("a: b"), "critique": {}})
    )
    assert config.data.path == Path("a: b")
    assert config.critique.critic == "x", "a section among the settings does not drop what was given"


def path_keys() -> list[tuple[str, ...]]:
    def is_path(annotation: Any) -> bool:
        return get_origin(annotation) is types.UnionType and Path in get_args(annotation)

    top = [(name,) for name, field in Config.model_fields.items() if is_path(field.annotation)]
    inner = [
        (section, name)
        for section, model in SECTIONS.items()
        for name, field in model.model_fields.items()
        if is_path(field.annotation)
    ]
    return [*top, *inner]


def test_relative_paths_start_from_the_projects_folder(tmp_path: Path) -> None:
    assert ("specifications",) in path_keys()
    assert ("data", "path") in path_keys()
    file = tmp_path / "deep" / "project.yaml"
    file.parent.mkdir()
    for start, expected in (("here/x", file.parent / "here/x"), ("/abs/x", Path("/abs/x"))):
        document: dict[str, Any] = {}
        for *section, key in path_keys():
            place = document.setdefault(section[0], {}) if section else document
            place[key] = start
        file.write_text(yaml.safe_dump(document))
        config: Any = load_config(file)
        for *section, key in path_keys():
            place = getattr(config, section[0]) if section else config
            assert getattr(place, key) == expected
    assert load_config(file, ["data.path=there"]).data.path == Path("there"), "a setting's do not"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"align: {lambda: [1", "not valid YAML"),
        (b"- a\n- b\n", "is a mapping of keys"),
        (b"\xff\xfe", "cannot be read as UTF-8 text"),
        (b"alin: {}", "unknown key 'alin'; did you mean 'align'"),
        (b"align:\n", "align: is a section"),
    ],
)
def test_files_that_are_not_projects(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=told) as caught:
        load_config(file)
    assert str(file) in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such project file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
