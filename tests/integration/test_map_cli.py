"""`nearvote map`, as people use it."""

from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.server import Server, free_port, run

PNG = b"\x89PNG"
HASHING = ("--model", "hashing")


@pytest.fixture
def filled(plain: Server) -> Server:
    """A server with twelve examples of each label."""
    with plain.client() as client:
        for i in range(12):
            client.add_example("spam", f"win prize number {i} now", ["spam"])
            client.add_example("spam", f"see you at {i} on monday", ["ham"])
    return plain


@pytest.mark.parametrize(("name", "begins"), [("map.png", PNG), ("map.svg", b"<?xml"), ("map.PNG", PNG)])
def test_a_map_is_drawn(filled: Server, tmp_path: Path, name: str, begins: bytes) -> None:
    """A task's examples become a picture of the kind that the file's name says, for its owner alone."""
    file = tmp_path / name
    done = filled.cli("map", "-t", "spam", "-o", str(file), *HASHING, "-m", "win a prize", "-m", "")
    assert done.returncode == 0, done.stderr
    assert f"{file}: 24 examples; silhouette 0." in done.stdout
    assert file.read_bytes().startswith(begins)
    assert file.stat().st_mode & 0o077 == 0
    assert [one.name for one in tmp_path.glob("*") if one.suffix.lower() in {".png", ".svg"}] == [name]


def test_encoders_are_compared(filled: Server, tmp_path: Path) -> None:
    """--compare draws the encoders and random vectors side by side, with a figure for each; one named twice is one."""
    done = filled.cli("map", "-t", "spam", "-o", str(tmp_path / "map.png"), *HASHING, "--compare", "hashing")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("silhouette") == 2
    assert "with hashing" in done.stdout
    assert "with random vectors" in done.stdout


def test_messages_come_from_a_file_or_standard_input(filled: Server, tmp_path: Path) -> None:
    """Messages are read one a line; more than twenty are refused, and a missing file is wrong usage."""
    file, picture = tmp_path / "messages.txt", str(tmp_path / "map.png")
    file.write_text("win a prize\n\nsee you\n")
    arguments = ("map", "-t", "spam", "-o", picture, *HASHING, "--messages")
    assert filled.cli(*arguments, str(file)).returncode == 0
    assert filled.cli(*arguments, "-", stdin="win\nsee\n").returncode == 0
    refused = filled.cli(*arguments, "-", stdin="win\n" * 21)
    assert (refused.returncode, "20 messages at most" in refused.stderr) == (2, True)
    missing = filled.cli(*arguments, str(tmp_path / "nowhere.txt"))
    assert (missing.returncode, "nowhere.txt can't be read" in missing.stderr) == (2, True)


def test_a_map_may_show_a_part(filled: Server, tmp_path: Path) -> None:
    """--limit draws so many examples and says so."""
    done = filled.cli("map", "-t", "spam", "-o", str(tmp_path / "map.png"), *HASHING, "--limit", "10")
    assert "10 of 24 examples" in done.stdout, done.stderr


def test_a_single_example_is_a_map(plain: Server, tmp_path: Path) -> None:
    """One example is drawn; its figure is undefined."""
    plain.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize")
    done = plain.cli("map", "-t", "spam", "-o", str(tmp_path / "map.png"), *HASHING, "-m", "hello")
    assert "1 examples; silhouette undefined" in done.stdout, done.stderr


def test_another_encoder_than_the_services_is_told(start: Start, tmp_path: Path) -> None:
    """Where messages are labelled by another encoder than the map's, the command says whose neighbours they are."""
    server = start()
    server.cli("tasks", "create", "spam", "-l", "spam")
    server.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize")
    done = server.cli("map", "-t", "spam", "-o", str(tmp_path / "m.png"), "--model", str(tmp_path), "-m", "win")
    assert "the service runs hashing" in done.stderr
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)  # the folder holds no model


def test_what_can_not_be_drawn_is_told(plain: Server, tmp_path: Path) -> None:
    """No examples, no such task, no folder and an unknown kind of file end with a line and a code, without a file."""
    picture = str(tmp_path / "map.png")
    for arguments, code, said in (
        (("-t", "spam", "-o", picture), 1, "no examples to draw"),
        (("-t", "nope", "-o", picture), 1, "no such task"),
        (("-t", "spam", "-o", str(tmp_path / "nowhere" / "map.png")), 2, "can't be written"),
        (("-t", "spam", "-o", str(tmp_path / "map.jpg")), 2, "has to end in .png or .svg"),
    ):
        done = plain.cli("map", *arguments, *HASHING)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr
    assert list(tmp_path.glob("map*")) == []


def test_a_map_takes_a_service(tmp_path: Path) -> None:
    """Where no service answers, the command says how to start one."""
    done = run("map", "-t", "spam", "-o", str(tmp_path / "map.png"), "--address", f"127.0.0.1:{free_port()}")
    assert (done.returncode, "nearvote serve" in done.stderr) == (3, True)
