"""A folder works the same on a disk, in an object store and on other file systems."""

import pickle
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from object_store import ObjectStore, Request
from pyarrow import fs

from results import StoreError
from results.storage.locations import DiskFolder, Entry, Folder, folder_of


@pytest.fixture(params=["disk", "s3", "another file system"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder of each kind."""
    if request.param == "disk":
        made = folder_of(tmp_path / "folder")
    elif request.param == "s3":
        made = folder_of(request.getfixturevalue("object_store").new_prefix())
    else:
        made = folder_of("folder", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))
    made.make()
    return made


def filled(folder: Path) -> None:
    for name in ("a.json", "b.bin", "c.bin"):
        (folder / name).write_text(name)


def test_written_files_are_read_listed_and_deleted(folder: Folder) -> None:
    folder.write("b.bin", b"four")
    folder.write("a.bin", b"")
    folder.write("b.bin", b"fives")
    assert folder.read("b.bin") == b"fives"
    assert folder.entries() == [Entry("a.bin", 0), Entry("b.bin", 5)]
    assert folder.has("a.bin")
    with folder.open("b.bin") as file:
        file.seek(2)
        assert file.read(2) == b"ve"
    folder.delete("a.bin")
    folder.delete("a.bin")
    assert not folder.has("a.bin")
    assert folder.entries() == [Entry("b.bin", 5)]
    assert folder.exists()


def test_a_missing_folder_is_empty_and_missing_files_raise_an_error(folder: Folder) -> None:
    inside = folder / "none"
    assert not inside.exists()
    assert inside.entries() == []
    assert not inside.has("file")
    inside.delete("file")
    for use in (inside.read, inside.open, folder.read):
        with pytest.raises(FileNotFoundError):
            use("file")


def test_a_folder_in_a_folder_has_its_own_files(folder: Folder) -> None:
    inside = folder / "cells"
    inside.make()
    inside.write("one", b"1")
    folder.write("two", b"2")
    assert [entry.name for entry in inside.entries()] == ["one"]
    assert folder.has("two")
    assert not folder.has("cells")
    assert str(inside).partition("?")[0] == str(folder).partition("?")[0] + "/cells"


def test_a_stored_folder_is_read_back_and_removed(folder: Folder) -> None:
    assert not folder.holds("key", "a.json")
    folder.put("key", filled, "a.json")
    assert folder.holds("key", "a.json")
    assert (folder / "key").has("a.json")
    with folder.get("key") as copy:
        assert {path.name: path.read_text() for path in copy.iterdir()} == {
            name: name for name in ("a.json", "b.bin", "c.bin")
        }
    folder.remove("key", "a.json")
    assert not folder.holds("key", "a.json")
    assert (folder / "key").entries() == []


def test_subfolders_are_listed(folder: Folder) -> None:
    assert folder.folders() == []
    folder.write("file", b"x")
    for name in ("two", "one"):
        folder.put(name, filled, "a.json")
    assert folder.folders() == folder.folders("a.json") == ["one", "two"]
    assert folder.folders("file") == []
    assert (folder / "none").folders() == []
    folder.remove("one", "a.json")
    assert folder.folders() == ["two"]


def test_a_folder_that_is_being_filled_is_not_listed(tmp_path: Path) -> None:
    folder, seen = folder_of(tmp_path), []
    folder.put("key", lambda _: seen.extend(folder.folders()), "a.json")
    assert seen == []
    assert folder.folders() == ["key"]


def test_a_folder_that_could_not_be_filled_is_absent(folder: Folder) -> None:
    def fails(to: Path) -> None:
        filled(to)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        folder.put("key", fails, "a.json")
    assert not folder.holds("key", "a.json")
    assert folder.entries() == []


def test_a_folder_can_be_pickled(folder: Folder) -> None:
    folder.write("file", b"x")
    assert pickle.loads(pickle.dumps(folder)).read("file") == b"x"


def test_a_small_file_is_written_by_one_put(object_store: ObjectStore) -> None:
    folder = folder_of(object_store.new_prefix())
    folder.make()
    folder.write("cell", b"x" * 100_000)
    assert [(one.method, one.query) for one in object_store.requests] == [("PUT", "")]


def test_the_last_file_of_a_folder_is_written_last(object_store: ObjectStore) -> None:
    folder_of(object_store.new_prefix()).put("key", filled, "a.json")
    names = [one.path.rpartition("/")[2] for one in object_store.sent("PUT")]
    assert names == ["b.bin", "c.bin", "a.json"]


@pytest.mark.parametrize("size", [1_000, 12_000_000], ids=["one request", "in parts"])
def test_a_write_that_fails_leaves_the_old_file(object_store: ObjectStore, size: int) -> None:
    folder = folder_of(object_store.new_prefix())
    folder.write("file", b"old")

    def refuse(request: Request) -> str | None:
        second = request.query == "" or "partNumber=2" in request.query
        return "500 Internal Server Error" if request.method == "PUT" and second else None

    with object_store.refusing(refuse), pytest.raises(StoreError, match=r"prefix/file.* cannot be"):
        folder.write("file", b"x" * size)
    assert folder.read("file") == b"old"
    assert folder.entries() == [Entry("file", 3)]


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Slow Down"])
def test_failed_requests_are_retried(object_store: ObjectStore, status: str) -> None:
    folder = folder_of(object_store.new_prefix())
    with object_store.refusing(lambda _: status if len(object_store.requests) % 2 else None):
        folder.write("file", b"x")
        assert folder.has("file")
        assert folder.read("file") == b"x"
        assert folder.entries() == [Entry("file", 1)]
        folder.delete("file")
    assert folder.entries() == []


USES: list[Callable[[Folder], object]] = [
    lambda folder: folder.read("file"),
    lambda folder: folder.open("file"),
    lambda folder: folder.write("file", b""),
    lambda folder: folder.delete("file"),
    lambda folder: folder.has("file"),
    lambda folder: folder.entries(),
    lambda folder: folder.exists(),
]


@pytest.mark.parametrize("use", USES)
def test_a_store_that_does_not_answer_is_an_error_that_names_it(
    object_store: ObjectStore, use: Callable[[Folder], object]
) -> None:
    where = object_store.new_prefix()
    with (
        object_store.refusing(lambda _: "503 Slow Down"),
        pytest.raises(StoreError, match=r"some/prefix.* cannot be reached: .*"),
    ):
        use(folder_of(where))
    assert len(object_store.requests) == 5


def test_a_bucket_that_is_not_there_is_named(object_store: ObjectStore) -> None:
    where = object_store.new_prefix().replace("//bucket", "//no-bucket")
    with pytest.raises(StoreError, match=r"no-bucket.*NO_SUCH_BUCKET"):
        folder_of(where).write("file", b"")


@pytest.mark.parametrize("where", ["runs/x", "file:///runs/x", Path("runs/x")])
def test_paths_and_file_uris_are_on_the_disk(where: str | Path) -> None:
    found = folder_of(where)
    assert isinstance(found, DiskFolder)
    assert found.path.parts[-2:] == ("runs", "x")


def test_the_home_folder_is_meant_by_its_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for where in ("~/runs", Path("~/runs"), PurePosixPath("~/runs")):
        assert folder_of(where) == DiskFolder(tmp_path / "runs")


def test_a_fixed_folder_stays_when_the_current_one_changes(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder.fixed() == folder
    monkeypatch.chdir(tmp_path)
    fixed = folder_of("a").fixed()
    assert (str(fixed), str(fixed / "b"), str((fixed / "b").parent)) == ("a", "a/b", "a")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert str(fixed) == str(tmp_path / "a")
    fixed.make()
    fixed.write("file", b"x")
    assert (tmp_path / "a" / "file").exists()


def test_google_cloud_storage_has_its_client() -> None:
    found = folder_of("gs://anonymous@bucket/prefix")
    assert isinstance(found.filesystem, fs.GcsFileSystem)
    assert (found.path, str(found)) == ("bucket/prefix", "gs://bucket/prefix")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("s3://bucket/x?regoin=eu", ["regoin", "region, scheme"]),
        ("ftp://host/x", ["ftp"]),
        ("s3://", ["bucket"]),
        (Path("s3://bucket/x"), ["as text"]),
        ("s3:/bucket/x", ["a slash behind the colon"]),
        ("file:/runs/x", ["a slash behind the colon"]),
        ("file://runs/x", ["names the machine runs", "file:///runs/x"]),
        ("~nobody-of-this-name/x", ["home", "./~nobody"]),
    ],
)
def test_an_invalid_folder_name_is_refused(where: str | Path, words: list[str]) -> None:
    with pytest.raises(StoreError) as caught:
        folder_of(where)
    assert [word for word in words if word not in str(caught.value)] == []


def test_credentials_in_a_uri_are_not_printed(object_store: ObjectStore) -> None:
    where = object_store.new_prefix().replace("s3://", "s3://tests:geheim@")
    folder = folder_of(where) / "cells"
    folder.write("file", b"x")
    with object_store.refusing(lambda _: "503"), pytest.raises(StoreError) as caught:
        folder.read("file")
    assert "geheim" not in f"{folder} {caught.value}"
