"""What is said of a file; the figures are worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgecnn.format import write
from edgecnn.tools.inspect import inspect
from small_models import convolution, dense_pair, mean_classifier, save


def test_a_convolution_s_figures(tmp_path: Path) -> None:
    found = inspect(save(convolution(filters=8, size=16), tmp_path))
    (node,) = found.nodes
    assert (node.operator, node.name, node.shape, node.activation) == ("conv", "conv", (None, 16, 16, 8), "relu")
    assert node.parameters == found.parameters == 3 * 3 * 4 * 8 + 8
    assert node.stored_bytes == 4 * node.parameters
    assert node.macs == found.macs == 16 * 16 * 8 * 3 * 3 * 4
    assert found.sparsity == (3 * 3 * 4 * 4) / (3 * 3 * 4 * 8 + 8)
    assert found.size == (tmp_path / "model.ecnn").stat().st_size


def test_each_encoding_is_counted_apart(tmp_path: Path) -> None:
    graph = convolution()
    weights = replace(graph.constants["weights"], encoding="float16")
    write(replace(graph, constants={**graph.constants, "weights": weights}), tmp_path / "m.ecnn")
    found = {row.encoding: row for row in inspect(tmp_path / "m.ecnn").encodings}
    assert set(found) == {"float16", "float32"}
    assert (found["float16"].stored_bytes, found["float16"].dense_bytes) == (2 * 288, 4 * 288)
    assert (found["float32"].constants, found["float32"].parameters) == (1, 8)


def test_a_model_of_unknown_size_has_unknown_costs(tmp_path: Path) -> None:
    found = inspect(save(mean_classifier(size=None), tmp_path))
    assert (found.weight_memory, found.arena_memory, found.scratch_memory) == (None, None, None)
    assert "N x ? x ? x 3" in str(found)
    assert "unknown until the image's size is" in str(found)


def test_all_inputs_and_outputs_are_listed(tmp_path: Path) -> None:
    text = str(inspect(save(dense_pair(), tmp_path)))
    assert [line.split()[1] for line in text.splitlines() if line.startswith("input")] == ["left:", "right:"]
    assert [line.split()[1] for line in text.splitlines() if line.startswith("output")] == ["sum:", "double:"]


def test_metadata_and_sections_are_shown(tmp_path: Path) -> None:
    labels = [f"class {i}" for i in range(1000)]
    text = str(inspect(save(mean_classifier(metadata={"labels": labels, "note": "by hand"}), tmp_path)))
    assert "  note: by hand" in text
    assert max(map(len, text.splitlines())) < 160
    assert [line.split()[0] for line in text.splitlines() if len(line.split()) == 4 and "," not in line.split()[0]]


def test_the_record_is_json(tmp_path: Path) -> None:
    record = inspect(save(convolution(), tmp_path)).to_json()
    assert json.loads(json.dumps(record))["nodes"][0]["operator"] == "conv"


def test_names_of_a_hostile_file_are_shown_escaped(tmp_path: Path) -> None:
    graph = mean_classifier(name="evil\x1b]0;title\x07", metadata={"k\x1bey": "v\u202ealue"})
    text = str(inspect(save(graph, tmp_path)))
    assert "evil\\x1b]0;title\\x07" in text
    assert "k\\x1bey: v\\u202ealue" in text
    assert text.replace("\n", "").isprintable()
