"""A disk without room, and one that can't be written to: on a real file system of its own, in a file."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nearvote import Client
from nearvote.client.errors import ServiceError
from nearvote.examples.example import Draft
from nearvote.tasks.task import Label, Task
from tests.integration.conftest import Start
from tests.integration.server import Server, run

_MIB = 2**20
_DISK_MIB, _MIN_FREE_MIB = 192, 48
_FLAGS = ("--model", "hashing", "--no-seeds")


def _mounted(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system, where the machine lets us make and mount one."""
    folder, image = tmp_path / "disk", tmp_path / "image"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(_DISK_MIB * _MIB)
    make = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    made = make and subprocess.run([make, "-q", "-m", "0", image], capture_output=True, check=False).returncode == 0
    mounted = made and _mounted("-o", "loop,errors=remount-ro", image, folder)
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def _free_mib(folder: Path) -> float:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize / _MIB


def _fill(folder: Path, leave_mib: float) -> Path:
    """A file that takes all room but some."""
    filler = folder / "filler"
    with filler.open("ab") as file:
        while (room := _free_mib(folder) - leave_mib) > 0:
            try:
                file.write(b"\xff" * max(4096, min(int(room * _MIB), _MIB)))
                file.flush()
                os.fsync(file.fileno())
            except OSError:  # to the last byte
                break
    return filler


def _write_until_refused(client: Client) -> tuple[list[str], ServiceError]:
    written: list[str] = []
    for number in range(3_000):
        texts = [f"number {number} {i} " + "word " * 2_000 for i in range(10)]
        try:
            client.add_examples([Draft("spam", text, ("spam",)) for text in texts])
        except ServiceError as error:
            return written, error
        written += texts
    raise AssertionError("nothing was refused")


def _assert_reads_go_on(client: Client, count: int) -> None:
    assert client.info().tasks[0].example_count == count
    assert len({example.id for example in client.list_examples("spam")}) == count
    assert client.classify("number 1 1 word", ["spam"]).predictions[0].labels == ("spam",)
    assert client.search_examples("spam", "number 1 1 word", limit=3)


def test_a_full_disk_refuses_writes_and_answers_all_the_same(small_disk: Path, tmp_path: Path) -> None:
    """Writes are refused with the remedy before the disk is full; when it is, reads go on; with room, all is there."""
    server = Server(tmp_path / "data", *_FLAGS, NEARVOTE_MIN_FREE_DISK_MIB=str(_MIN_FREE_MIB))
    server.folder = small_disk / "data"
    server.start()
    try:
        with server.client() as client:
            client.create_task(Task("spam", (Label("spam"), Label("ham"))))
            filler = _fill(small_disk, leave_mib=_MIN_FREE_MIB + 10)
            written, error = _write_until_refused(client)
            assert written
            assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "STORE_FULL")
            assert "min_free_disk_mib" in error.message
            count = len(list(client.list_examples("spam")))
            assert len(written) <= count < len(written) + 10  # of the batch that was refused some may be there
            _assert_reads_go_on(client, count)
            _fill(small_disk, leave_mib=0)
            _assert_reads_go_on(client, count)
            some = next(iter(client.list_examples("spam")))
            with pytest.raises(ServiceError, match="STORE_FULL"):
                client.delete_example("spam", some.id)
            with pytest.raises(ServiceError, match="STORE_FULL"):
                client.start_fit("spam")  # at once, not when all is learned and can't be kept
            _assert_reads_go_on(client, count)
        assert server.stop(signal.SIGTERM) == 0
        refused = run("serve", "--data-dir", str(server.folder), *_FLAGS, NEARVOTE_MIN_FREE_DISK_MIB="48")
        assert refused.returncode == 1
        assert "min_free_disk_mib" in refused.stderr
        filler.unlink()
        server.start()
        with server.client() as client:
            _assert_reads_go_on(client, count)
            client.add_example("spam", "there is room again", ["ham"])
    finally:
        server.stop(signal.SIGKILL)


def test_a_disk_that_becomes_read_only(small_disk: Path, tmp_path: Path) -> None:
    """Writes say so, reads go on; and a start on it is refused."""
    device = subprocess.run(
        ["findmnt", "--noheadings", "--output", "SOURCE", small_disk], capture_output=True, text=True, check=True
    ).stdout.strip()
    server = Server(tmp_path / "data", *_FLAGS, NEARVOTE_MIN_FREE_DISK_MIB="1")
    server.folder = small_disk / "data"
    try:
        server.start()
        with server.client() as client:
            client.create_task(Task("spam", (Label("spam"), Label("ham"))))
            client.add_example("spam", "number 1 1 word", ["spam"])
            # What the system does when it finds the file system's own records damaged.
            (Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error").write_text("1")
            for write in (
                lambda: client.add_example("spam", "another", ["ham"]),
                lambda: client.add_example("spam", "number 1 1 word", ["ham"]),
                lambda: client.delete_task("spam", force=True),
                lambda: client.create_task(Task("other", (Label("a"), Label("b")))),
            ):
                with pytest.raises(ServiceError, match="can't be written to") as refused:
                    write()
                assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "STORE_READ_ONLY")
            _assert_reads_go_on(client, 1)
        server.stop()
        done = run("serve", "--data-dir", str(server.folder), *_FLAGS)
        assert done.returncode == 1
        assert "can't be written to" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        server.stop(signal.SIGKILL)


def test_too_little_room_is_known_before_it_is_written_to(start: Start, tmp_path: Path) -> None:
    """On any disk: with less room than is to be kept free, writes are refused; with far less, a start is."""
    free = int(_free_mib(tmp_path))
    server = start(NEARVOTE_MIN_FREE_DISK_MIB=str(free // 2))
    server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
    server.cli("examples", "add", "-t", "spam", "-l", "spam", "number 1 1 word")
    server.stop()
    server = start(NEARVOTE_MIN_FREE_DISK_MIB=str(free * 2))
    done = server.cli("examples", "add", "-t", "spam", "-l", "spam", "another")
    assert done.returncode == 1
    assert "MiB of room" in done.stderr
    with server.client() as client:
        _assert_reads_go_on(client, 1)
    server.stop()
    with pytest.raises(AssertionError, match="min_free_disk_mib"):
        start(NEARVOTE_MIN_FREE_DISK_MIB=str(free * 8))
