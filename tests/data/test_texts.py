"""Half of a surrogate pair in a text, wherever it is nested."""

from r1kit.data.texts import surrogate_fault


def test_half_a_pair_is_named_by_its_field_and_place() -> None:
    fault = surrogate_fault({"a": ["fine", {"b": "x\udfff"}]}, "metadata")
    assert fault is not None
    assert fault.startswith("`metadata.a[1].b` holds '\\udfff' at character 2")
    assert surrogate_fault("\ud83d\ude00", "text") is not None  # as two characters, as JSON never gives them


def test_whole_characters_numbers_and_nothing_are_fine() -> None:
    for value in ("", "naïve 😀 \x00", None, 3, [1, None], {"a": ("b",)}, b"\xff"):
        assert surrogate_fault(value, "text") is None
