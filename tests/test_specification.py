"""Class specifications: what is read, and what is said about what cannot be."""

from pathlib import Path

import pytest

from lvlm_va.critique.specification import ClassSpecification, load_specifications
from lvlm_va.errors import SpecificationError

GOOD = """
classes:
  7:
    description: A bar and a slanted stroke.
    relevant: [the bar, the stroke]
    spurious: a patch in a corner
  no: A word that YAML takes for False.
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "specifications.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_both_forms_are_read_in_the_order_of_the_classes(tmp_path: Path) -> None:
    found = load_specifications(write(tmp_path, GOOD), ["no", "7"])
    assert list(found) == ["no", "7"]
    assert found["no"] == ClassSpecification("no", "A word that YAML takes for False.")
    assert found["7"] == ClassSpecification(
        "7", "A bar and a slanted stroke.", ("the bar", "the stroke"), ("a patch in a corner",)
    )


def test_a_mapping_says_the_same_as_a_file(tmp_path: Path) -> None:
    mapping = {
        "classes": {
            7: {
                "description": "A bar and a slanted stroke.",
                "relevant": ["the bar", "the stroke"],
                "spurious": "a patch in a corner",
            },
            "no": "A word that YAML takes for False.",
        }
    }
    assert load_specifications(mapping, ["7", "no"]) == load_specifications(
        write(tmp_path, GOOD), ["7", "no"]
    )


def test_the_version_changes_with_every_part_and_only_then() -> None:
    one = ClassSpecification("a", "b", ("c",), ("d",))
    others = [
        ClassSpecification("x", "b", ("c",), ("d",)),
        ClassSpecification("a", "x", ("c",), ("d",)),
        ClassSpecification("a", "b", ("x",), ("d",)),
        ClassSpecification("a", "b", ("c",), ("x",)),
        ClassSpecification("a", "b", ("c", "d"), ()),
    ]
    assert len({one.version, *(other.version for other in others)}) == 6
    assert one.version == ClassSpecification("a", "b", ("c",), ("d",)).version


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classes: {'7': a}", "no specification for class 'no'"),
        ("classes: {'7': a, no: b, sevn: c}", "the model has no class 'sevn'"),
        (
            "classes: {'7': {description: a, relevent: b}, no: c}",
            "class '7': unknown key 'relevent'; did you mean 'relevant'",
        ),
        ("clases: {}", "start with `classes:`"),
        ("classes: {}\nclass: {}", "unknown key 'class'; did you mean 'classes'"),
        ("classes: {'7': '  ', no: b}", "class '7': 'description' is '  '"),
        ("classes: {'7': , no: b}", "class '7': 'description' is ''"),
        ("classes: {'7': {relevant: b}, no: b}", "class '7': the key 'description' is missing"),
        ("classes: {'7': {description: a, spurious: [b, '']}, no: b}", "class '7': 'spurious' is ''"),
        ("classes: {'7': [a], no: b}", "class '7': write a description"),
        ("classes: {'7': a, '7': b, no: c}", "'7' is given twice"),
        ('classes: {"7": "\\ud800", no: b}', "class '7': 'description' holds half a character"),
        ("classes: [a, b]", "must map class names"),
        ("classes: {a: [}", "not valid YAML"),
        ("- a", "start with `classes:`"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_class(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SpecificationError) as caught:
        load_specifications(path, ["7", "no"])
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(SpecificationError, match="no such file"):
        load_specifications(tmp_path / "none.yaml", ["a"])
    path = tmp_path / "latin.yaml"
    path.write_bytes("classes: {a: Gänge}".encode("latin-1"))
    with pytest.raises(SpecificationError, match="UTF-8"):
        load_specifications(path, ["a"])


def test_yaml_builds_nothing_but_text(tmp_path: Path) -> None:
    path = write(tmp_path, "classes: {a: !!python/object/apply:os.getcwd []}")
    with pytest.raises(SpecificationError):
        load_specifications(path, ["a"])
