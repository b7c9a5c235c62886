"""YAML that a person wrote: every mistake is one sentence with its line, and never more than that."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lvlm_va.config.loading import apply_settings, load_config, parse_config
from lvlm_va.config.reference import project_keys
from lvlm_va.config.yamlfile import parse_yaml, read_yaml
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.specification import load_specifications
from lvlm_va.errors import ConfigError, LvlmVaError, SpecificationError
from lvlm_va.project.presets import PRESETS, preset

NUMBERS = [
    f"{key.section}.{key.name}".removeprefix(".")
    for key in project_keys()
    if key.kind in ("number", "whole number")
]
"""Every key that is one number: each has a smallest and a largest value."""

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
)
CHAIN = "\n".join(["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 3000)])

VALUES = [  # what stands behind a key, and what is told
    ("2024-13-45", "is no valid timestamp"),
    ("2024-02-30 25:61:61", "is no valid timestamp"),
    ("0b_", "is no valid int"),
    ("0x_", "is no valid int"),
    ("!!float abc", "is no valid float"),
    ("!!bool foo", "is no valid bool"),
    ("!!int ''", "is no valid int"),
    ("!!timestamp xx", "is no valid timestamp"),
    ("!!binary é", "base64|ascii"),
    ("9" * 5000, "is no valid int"),
    ("9" * 400, "the number is too large"),
    ("0x" + "f" * 5000, "the number is too large"),
    ("[" * 3000 + "]" * 3000, "nested more than 50 levels"),
    ("{a: " * 3000 + "}" * 3000, "nested more than 50 levels"),
    ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
    ("!!python/name:os.system", "could not determine a constructor"),
    ("&a [*a]", "refers to what it is part of"),
    ("&a {<<: *a}", "refers to what it is part of"),
    ("*nobody", "undefined alias"),
    ("{a: 1, a: 2}", "'a' is given twice"),
    ("{[a]: 1}", "unhashable"),
    ("[1", "expected"),
    ("'", "end of stream"),
    ("\0", "cannot be printed"),
    ("!!set [a]", "expected a mapping"),
]


@pytest.mark.parametrize(("value", "told"), VALUES, ids=[value[:24] for value, _ in VALUES])
def test_bad_values_are_told_with_their_line(tmp_path: Path, value: str, told: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"project: k\n\nx: {value}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=told) as caught:
        read_yaml(file, ConfigError, missing="")
    message = str(caught.value)
    assert message.startswith(f"{file}, line ")
    assert message.removeprefix(f"{file}, line ")[0] in "34", "an open bracket is missed on the next line"
    assert len(message) < 500
    assert "\n" not in message
    with pytest.raises(ConfigError, match=told) as caught:
        apply_settings({}, [f"align.lambda={value}"])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "told"),
    [(BOMB, "more than 100,000 values"), (CHAIN, "50 levels"), (f"classes:\n  k: {BOMB!r}\n  k: x", "twice")],
)
def test_small_files_that_grow(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text)
    for read in (load_config, lambda f: load_specifications(f, ["a"]), load_examples):
        with pytest.raises(LvlmVaError, match=told):
            read(file)


def test_specifications_and_examples_are_read_with_the_same_care(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(f"classes: {'[' * 3000 + ']' * 3000}")
    with pytest.raises(SpecificationError, match=r"line 1: .*nested more than"):
        load_specifications(file, ["a"])
    file.write_text("classes:\n  a: {description: {b: [c]}}")
    with pytest.raises(SpecificationError, match="write text there"):
        load_specifications(file, ["a"])
    file.write_text("- critique: 2024-13-45")
    with pytest.raises(SpecificationError, match=r"line 1: .*no valid timestamp"):
        load_examples(file)
    with pytest.raises(SpecificationError, match="no such file"):
        load_examples(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text", ["align: {epochs: 1}\nalign: {lambda: [100]}", "align: {epochs: 1, epochs: 2}"]
)
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"p\.yaml, line \d: not valid YAML: '\w+' is given twice"):
        load_config(file)


def test_anchors_and_merges_stay() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: &c {<<: *a, y: 4}\nd: {<<: [*c, *a], x: 5}\ne: [*a, *a]"
    assert parse_yaml(text, ConfigError, where="here") == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n  # but comments", "---\n", "null", "{}", "\ufeff"])
def test_an_empty_project_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text, encoding="utf-8")
    for settings_ in ((), ("align.epochs=3",)):
        with pytest.raises(ConfigError, match=r"p\.yaml: is empty"):
            load_config(file, settings_)


def test_devices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="/dev/null: is empty"):
        load_config(Path("/dev/null"))
    with pytest.raises(ConfigError, match="/dev/zero: is larger than"):
        load_config(Path("/dev/zero"))


PIECES = st.sampled_from(
    [
        *(
            "project:",
            "data:",
            "align:",
            "lambda:",
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            "-",
            "&",
            "*",
            "!",
            "|",
            ">",
        ),
        *(
            "!!int ",
            "!!float ",
            "!!set ",
            "!!omap ",
            "!!binary ",
            "!!timestamp ",
            "!!bool ",
            "'",
            '"',
            "?",
            "#",
        ),
        *("%", "<<", "&a ", "*a", "1", "0x_", "1e9", "2024-01-99", "nan", ".inf", "~", "true", "\t", "\\x"),
        *("\n", "\n  ", " ", "\0", "\ud800", "é"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_nothing_but_sentences(text: str) -> None:
    """The oracle is PyYAML: what it reads is read alike, unless it is refused in a sentence."""
    for text_only, loader in ((False, yaml.SafeLoader), (True, yaml.BaseLoader)):
        try:
            mine = parse_yaml(text, ConfigError, where="here", text_only=text_only)
        except ConfigError:
            continue
        assert repr(mine) == repr(yaml.load(text, Loader=loader))


@pytest.mark.parametrize(
    "setting",
    [
        "model.seed=-1",
        "model.seed=99999999999",
        "data.size=100000000",
        "critique.concurrency=1000000",
        "critique.timeout=1e300",
        "align.lambda=2024-01-01",
        "explain.num_images=!!binary aGk=",
        "data.classes=[2024-01-01]",
        "project=!!set {a, b}",
    ],
)
def test_numbers_that_no_computation_takes(tmp_path: Path, setting: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("project: k")
    with pytest.raises(ConfigError, match=setting.split("=")[0]):
        load_config(file, [setting])


@pytest.mark.parametrize(
    "setting",
    [
        *(f"{key}={value}" for key in NUMBERS for value in ("1e30", "-1", "99999999999999", "true", ".nan")),
        *("align.lambda=[0.1, 0.1]", "align.lambda=[true]", "align.lambda=[]", "align.lambda=1e300"),
        *("data.classes=[a, b, a]", "data.groups=[a, a]", "critique.prices={m: {input: -1}}"),
        *("data.path=''", "specifications=' '", 'run="a\\0b"', "model.weights=''", "align.lambda=.inf"),
    ],
)
def test_what_is_beyond_reason_is_refused_by_its_key(setting: str) -> None:
    key = setting.split("=")[0]
    with pytest.raises(ConfigError) as caught:
        parse_config(apply_settings({}, [setting]))
    assert key.removesuffix(".lambda").removesuffix(".prices") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_path_is_not_the_projects_folder(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text('specifications: ""\n')
    with pytest.raises(ConfigError, match="specifications: is no path"):
        load_config(file)


def test_what_the_presets_and_the_experiments_say_is_within_reason() -> None:
    for name in PRESETS:
        load_config(preset(name))
    for align in ({"lambda": [0, 1e-4, 100]}, {"jitter": 1}, {"counterfactual": 10}, {"gamma": 1e-4}):
        parse_config({"align": align})
    parse_config({"critique": {"requests_per_minute": 0.5, "max_usd": 0, "split": 2}, "data": {"test": 0}})
