"""Text for people."""

from __future__ import annotations

import pytest

from edgecnn.tools.text import printable, shape_text, size_text, table


def test_control_characters_become_visible() -> None:
    assert printable("a\x1b[31mred\x07\r\n") == "a\\x1b[31mred\\x07\\r\\n"


def test_lone_surrogates_and_text_direction_become_visible() -> None:
    assert printable("a\ud800\u202eb\u0085") == "a\\ud800\\u202eb\\x85"


def test_letters_of_any_script_stay() -> None:
    assert printable("Straße 犬 é") == "Straße 犬 é"


def test_kept_characters_stay() -> None:
    assert printable("a\nb\tc", keep="\n") == "a\nb\\tc"


def test_a_table_aligns_its_columns() -> None:
    assert table(("name", "bytes"), [("a", "1"), ("long name", "1,000")], "lr") == (
        "name       bytes\na              1\nlong name  1,000"
    )


def test_a_name_cannot_break_a_table() -> None:
    assert table(("n", "x"), [("a\nb", "1")]) == "n     x\na\\nb  1"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "unknown"),
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (14_234, "14.2 kB"),
        (999_600, "1 MB"),
        (1_500_000, "1.5 MB"),
        (2_000_000_000, "2 GB"),
    ],
)
def test_sizes(size: int | None, text: str) -> None:
    assert size_text(size) == text


def test_shapes_name_the_batch_and_unknown_sizes() -> None:
    assert shape_text((None, None, 224, 3)) == "N x ? x 224 x 3"
