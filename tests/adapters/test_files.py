"""State in files: replaced as a whole or not at all, and what is said where that cannot be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autoscaler.adapters.files import FileStateStore
from autoscaler.errors import AutoscalerError, PermanentError, TransientError

SHARD = "autoscaler-state-0.json"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_what_is_saved_is_loaded_by_another_process(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "state"
    assert await FileStateStore(folder).load() == {}
    await FileStateStore(folder).save(0, b"{}")
    await FileStateStore(folder).save(17, b'{"a":1}')
    await FileStateStore(folder).save(0, b"[]")
    assert await FileStateStore(folder).load() == {0: b"[]", 17: b'{"a":1}'}
    assert names(folder) == {SHARD, "autoscaler-state-17.json"}


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("autoscaler-state-x.json", "notes.txt", "autoscaler-state-3.json.bak", "autoscaler-state-4.new"):
        (tmp_path / name).write_text("mine")
    assert await FileStateStore(tmp_path).load() == {}


async def test_a_full_disk_leaves_the_old_state_and_no_litter(tmp_path: Path) -> None:
    store = FileStateStore(tmp_path)
    await store.load()
    await store.save(0, b"old")
    (tmp_path / "autoscaler-state-0.new").symlink_to("/dev/full")
    with pytest.raises(TransientError, match=rf"state {tmp_path}/{SHARD}: No space left on device"):
        await store.save(0, b"new")
    assert await store.load() == {0: b"old"}
    assert names(tmp_path) == {SHARD}
    await store.save(0, b"new")
    assert await store.load() == {0: b"new"}


async def test_a_draft_that_a_kill_left_behind_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "autoscaler-state-0.new").write_bytes(b"half a docum")
    store = FileStateStore(tmp_path)
    assert await store.load() == {}
    await store.save(0, b"whole")
    assert await store.load() == {0: b"whole"}


def a_file(folder: Path) -> None:
    folder.write_text("")


def below_a_file(folder: Path) -> None:
    folder.parent.rmdir()
    folder.parent.write_text("")


def a_directory_as_shard(folder: Path) -> None:
    (folder / SHARD).mkdir(parents=True)


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        pytest.param(a_file, TransientError, "File exists", id="a-file-in-its-place"),
        pytest.param(below_a_file, PermanentError, "Not a directory", id="below-a-file"),
        pytest.param(a_directory_as_shard, TransientError, "Is a directory", id="a-directory-as-shard"),
    ],
)
async def test_what_cannot_be_read_is_said(spoil: Callable[[Path], None], kind: type[AutoscalerError], words: str, tmp_path: Path) -> None:
    folder = tmp_path / "var" / "state"
    folder.parent.mkdir()
    spoil(folder)
    with pytest.raises(kind, match=f"state {folder}.*{words}"):
        await FileStateStore(folder).load()
