"""Pages hold all they show, and nothing of a stranger's becomes markup; and the browser of the tests notices what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

from browser import Browser
from edgecnn.tools.page import plain, render

EVIL = "</script><script>alert(1)</script><!-- & \u202e\x1b[2J '\""


def test_data_enter_as_json_in_which_no_markup_can_be() -> None:
    page = render("profile", EVIL, {"name": EVIL, EVIL: [1.5, float("nan")]})
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    record = json.loads(text)
    assert record["name"].startswith("</script><script>alert(1)")
    assert None in record[EVIL]
    assert "&lt;/script&gt;" in page.partition("</title>")[0]


def test_places_in_data_are_not_filled_in() -> None:
    page = render("profile", "@data@", {"name": "@js@ @css@"})
    assert "<title>@data@</title>" in page
    assert '"name":"@js@ @css@"' in page


def test_the_frame_forbids_to_load_anything() -> None:
    page = render("profile", "x", {})
    assert "default-src 'none'" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_values_become_what_strict_json_has() -> None:
    given = {"a": (1, float("inf"), "x\x07"), 2: None, "flag": True}
    assert plain(given) == {"a": [1, None, "x\\x07"], "2": None, "flag": True}


def test_the_browser_notices_complaints_and_requests(tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        "<script>console.error('wrong')</script><img src='other.png'><script>throw new Error('thrown')</script>"
    )
    (tmp_path / "good.html").write_text("<title>good</title><p>fine</p>")
    with Browser() as browser:
        bad = browser.open(tmp_path / "bad.html")
        assert [url.rsplit("/", 1)[1] for url in bad.requests] == ["other.png"]
        assert any("wrong" in text for text in bad.complaints)
        assert any("thrown" in text for text in bad.complaints)
        good = browser.open(tmp_path / "good.html")
        assert (good.requests, good.complaints) == ([], [])
        assert good.evaluate("document.title") == "good"
