"""What the pages share: where indexes are kept, and for how long."""

import shutil
from pathlib import Path

from r1kit.ui.site import Site


def test_what_is_kept_about_a_folder_that_is_gone_is_deleted(tmp_path: Path) -> None:
    here, gone = tmp_path / "here", tmp_path / "gone \u00e9"
    for folder in (here, gone):
        folder.mkdir()
    site = Site((tmp_path,), tmp_path / "cache")
    kept, lost = site.cache_of(here), site.cache_of(gone)
    (lost / "rollouts-1").mkdir()
    (lost / "rollouts-1" / "texts").write_text("much")
    (site.cache / "token").write_text("secret")
    unknown = site.cache / "made by an older version"
    unknown.mkdir()
    assert site.forget_gone() == []
    shutil.rmtree(gone)
    assert site.forget_gone() == [gone]
    assert sorted(site.cache.iterdir()) == sorted([kept, unknown, site.cache / "token"])
    assert Site((tmp_path,), tmp_path / "none").forget_gone() == []


def test_a_damaged_note_deletes_nothing(tmp_path: Path) -> None:
    site = Site((tmp_path,), tmp_path / "cache")
    for i, note in enumerate((b"", b"relative/path", b"\x00", b"\xff\xfe")):
        folder = tmp_path / str(i)
        folder.mkdir()
        (site.cache_of(folder) / "folder").write_bytes(note)
    assert site.forget_gone() == []
    assert len(list(site.cache.iterdir())) == 4
