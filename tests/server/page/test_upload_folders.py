"""Where a file lies while the page reads it: private, and gone with what read it, were it killed."""

from __future__ import annotations

import stat
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
from support.banks import python
from support.pages import ServedPage, served_page

from membank_llama.server.page.upload_folders import PREFIX, UploadFolders

OTHER = """
    import os, sys
    from membank_llama.server.page.upload_folders import UploadFolders

    folders = UploadFolders()
    folder = folders.make()
    (folder / "conversations.json").write_text("private")
    print(folder, flush=True)
    sys.stdin.read()
    os._exit(9)
"""


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def there(tmp_path: Path) -> set[Path]:
    return set(tmp_path.glob(f"{PREFIX}*"))


def test_what_a_killed_server_left_is_taken_away_by_the_next(tmp_path: Path) -> None:
    other = python(OTHER, TMPDIR=str(tmp_path), TEMP=str(tmp_path))
    assert other.stdout is not None
    folder = Path(other.stdout.readline().strip())
    assert there(tmp_path) == {folder}
    foreign = tmp_path / f"{PREFIX}foreign"
    foreign.mkdir()
    mine = UploadFolders()
    own = mine.make()
    mine.clear_left()
    assert there(tmp_path) == {folder, foreign, own}, "one that is being read stays"
    other.kill()
    other.communicate()
    mine.clear_left()
    assert there(tmp_path) == {foreign, own}, "what carries no lock of ours is somebody else's"
    mine.remove(own)
    assert there(tmp_path) == {foreign}


@pytest.mark.skipif(sys.platform == "win32", reason="modes are none there")
def test_a_folder_is_private(tmp_path: Path) -> None:
    assert stat.S_IMODE(UploadFolders().make().stat().st_mode) == 0o700


def sent(shown: ServedPage, body: bytes) -> httpx.Response:
    headers = {"origin": shown.url, "hx-request": "true", "content-type": "application/octet-stream"}
    return shown.client.post("/membank/page/import?name=a.json", content=body, headers=headers)


def test_a_page_takes_away_what_others_left_and_leaves_nothing(tmp_path: Path) -> None:
    left = UploadFolders()
    left._held.pop(left.make()).release()
    assert len(there(tmp_path)) == 1
    with served_page(tmp_path, []) as shown:
        assert shown.get("/").status_code == 200
        assert there(tmp_path) == set()
        assert sent(shown, b"[]").status_code == 200
    assert there(tmp_path) == set()


def test_no_room_for_a_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served_page(tmp_path, []) as shown:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        answer = sent(shown, b"[]")
    assert answer.status_code >= 500
    assert "could not be taken in" in answer.text
