"""The command line, as people and scripts use it."""

import json
from pathlib import Path

import pytest

from nearvote.version import VERSION
from tests.integration.conftest import Start
from tests.integration.server import Server, free_port, run

NO_SERVICE = 3
INVALID_LINES = 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "hello"],
        ["info"],
        ["tasks", "list"],
        ["examples", "list", "-t", "spam"],
        ["examples", "export", "-t", "spam"],
    ],
)
def test_without_a_service_it_says_how_to_start_one(arguments: list[str]) -> None:
    """Where no service answers, the command says how to start one and ends with 3."""
    done = run(*arguments, "--address", f"127.0.0.1:{free_port()}")
    assert done.returncode == NO_SERVICE
    assert "nearvote serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_version_and_help() -> None:
    """--version prints the version, and no arguments print help."""
    assert run("--version").stdout.strip() == VERSION
    for command in ("serve", "reindex", "classify", "examples", "tasks", "info"):
        assert command in run("--help").stdout


def test_standard_input_is_labelled_in_order(plain: Server) -> None:
    """Lines of standard input are answered one for one, in their order, blank ones too."""
    plain.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize")
    lines = ["win a prize" if i % 2 else "" for i in range(300)]
    done = plain.cli("classify", "--json", "-t", "spam", stdin="\n".join(lines) + "\n")
    assert done.returncode == 0
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["text"] for answer in answers] == lines
    assert {answer["reason"] for answer in answers if not answer["text"]} == {"NO_TEXT"}
    assert {answer["label"] for answer in answers if answer["text"]} == {"spam"}
    assert answers[1].keys() >= {"text", "task", "label", "labels", "score", "abstained", "reason", "neighbors"}


def test_one_text_too_long_does_not_stop_the_others(plain: Server) -> None:
    """A line that is refused is told as an error; the others are labelled; the code says that something failed."""
    done = plain.cli("classify", "--json", "-t", "spam", stdin="hello\n" + "x" * 70_000 + "\nbye\n")
    assert done.returncode == 1
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["error"]["reason"] if "error" in answer else answer["text"] for answer in answers] == [
        "hello",
        "TEXT_TOO_LONG",
        "bye",
    ]


def test_people_get_a_table(plain: Server) -> None:
    """Without --json there is a table with label, score and neighbours."""
    plain.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize")
    table = plain.cli("classify", "win a prize", "-t", "spam").stdout
    assert "1.00 spam: win a prize" in table
    plain.cli("tasks", "update", "spam", "--similarity-floor", "0.99")
    assert "abstains: TOO_FAR" in plain.cli("classify", "some other prize", "-t", "spam").stdout


def test_examples_are_added_found_and_deleted(plain: Server) -> None:
    """add, list, search and delete work together; a deleted example votes no more."""
    added = json.loads(
        plain.cli("examples", "add", "-t", "spam", "-l", "spam", "--source", "me", "--json", "win a prize").stdout
    )
    assert added["created"]
    assert "updated" in plain.cli("examples", "add", "-t", "spam", "-l", "ham", "win a prize").stdout
    listed = [json.loads(line) for line in plain.cli("examples", "list", "-t", "spam", "--json").stdout.splitlines()]
    assert [(one["id"], one["labels"], one["source"]) for one in listed] == [(added["id"], ["ham"], "")]
    assert plain.cli("examples", "list", "-t", "spam", "-l", "spam", "--json").stdout == ""
    found = json.loads(plain.cli("examples", "search", "-t", "spam", "--json", "a prize").stdout)
    assert (found["text"], 0 < found["similarity"] < 1) == ("win a prize", True)
    assert added["id"] in plain.cli("examples", "search", "-t", "spam", "a prize").stdout
    assert plain.cli("examples", "delete", "-t", "spam", added["id"]).returncode == 0
    assert plain.cli("examples", "delete", "-t", "spam", added["id"]).returncode == 1
    answer = json.loads(plain.cli("classify", "--json", "-t", "spam", "win a prize").stdout)
    assert (answer["reason"], answer["neighbors"]) == ("NO_EXAMPLES", [])


def test_a_file_with_invalid_lines_is_imported_whole_or_not(plain: Server, tmp_path: Path) -> None:
    """A bad line is told by number and reason; nothing is imported, or the rest when asked."""
    file = tmp_path / "examples.jsonl"
    lines = [
        '{"text": "one", "label": "spam", "note": "x"}',
        '{"text": "two", "labels": ["nope"]}',
        "not json",
        '{"text": "three", "labels": ["ham"]}',
        '{"labels": ["ham"]}',
        '{"text": "\\u0301", "labels": ["ham"]}',
    ]
    file.write_text("\n".join(lines))
    refused = plain.cli("examples", "import", "-t", "spam", str(file))
    assert refused.returncode == INVALID_LINES
    for line in (2, 3, 5, 6):
        assert f"line {line}: " in refused.stderr
    assert "ignored fields: note" in refused.stderr
    assert "nothing was imported" in refused.stderr
    assert plain.cli("examples", "list", "-t", "spam", "--json").stdout == ""
    rest = plain.cli("examples", "import", "-t", "spam", "--skip-invalid", str(file))
    assert rest.returncode == INVALID_LINES
    assert "2 examples imported, 2 of them new; 4 lines invalid" in rest.stdout
    assert len(plain.cli("examples", "list", "-t", "spam", "--json").stdout.splitlines()) == 2


def test_export_and_import_go_round(plain: Server, tmp_path: Path) -> None:
    """What is exported is imported again as the same examples, from a file or standard input, twice being once."""
    with plain.client() as client:
        for i in range(300):
            client.add_example(
                "spam", f"text {i} 😀\n\x00", ["spam" if i % 3 else "ham"], weight=1 + i / 100, source=f"s{i % 4}"
            )
    file = tmp_path / "out.jsonl"
    assert plain.cli("examples", "export", "-t", "spam", "-o", str(file)).returncode == 0
    exported = plain.cli("examples", "export", "-t", "spam").stdout
    assert exported == file.read_text()
    assert plain.cli("tasks", "delete", "spam", "--force").stdout.strip() == "deleted task spam with 300 examples"
    assert plain.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham").returncode == 0
    done = plain.cli("examples", "import", str(file))
    assert "300 examples imported, 300 of them new" in done.stdout
    again = plain.cli("examples", "import", "-", stdin=exported)
    assert "300 examples imported, 0 of them new" in again.stdout

    def content(text: str) -> list[tuple[object, ...]]:
        rows = [json.loads(line) for line in text.splitlines()]
        return [(row["id"], row["text"], row["labels"], row["weight"], row["source"]) for row in rows]

    assert content(plain.cli("examples", "export", "-t", "spam").stdout) == content(exported)


def test_csv_is_imported(plain: Server, tmp_path: Path) -> None:
    """A CSV file with a header is imported, quoted line ends and all."""
    file = tmp_path / "examples.csv"
    file.write_text('text,label,weight\n"win, a\nprize",spam,2\nsee you,ham,\n')
    done = plain.cli("examples", "import", "-t", "spam", str(file))
    assert done.returncode == 0, done.stderr
    listed = [json.loads(line) for line in plain.cli("examples", "list", "-t", "spam", "--json").stdout.splitlines()]
    assert {(one["text"], one["labels"][0], one["weight"]) for one in listed} == {
        ("win, a\nprize", "spam", 2.0),
        ("see you", "ham", 1.0),
    }


def test_csv_is_known_on_standard_input(plain: Server) -> None:
    """CSV that comes by standard input, without a name that says so, is read as CSV; a broken one is refused whole."""
    done = plain.cli("examples", "import", "-t", "spam", "-", stdin="label,text\nspam,win a prize\nham,see you\n")
    assert (done.returncode, "2 examples imported" in done.stdout) == (0, True)
    broken = plain.cli("examples", "import", "-t", "spam", "-", stdin='label,text\nspam,"win\nham,hello\n')
    assert (broken.returncode, "never closed" in broken.stderr) == (INVALID_LINES, True)


def test_a_list_that_is_cut_says_so(plain: Server) -> None:
    """Where there are more examples than are listed, it is told beside the list."""
    for text in ("one", "two", "three"):
        plain.cli("examples", "add", "-t", "spam", "-l", "spam", text)
    cut = plain.cli("examples", "list", "-t", "spam", "--json", "--limit", "2")
    assert (len(cut.stdout.splitlines()), "there are more" in cut.stderr) == (2, True)
    whole = plain.cli("examples", "list", "-t", "spam", "--json", "--limit", "3")
    assert (len(whole.stdout.splitlines()), whole.stderr) == (3, "")


def test_a_time_that_is_none_is_wrong_usage() -> None:
    """An option's time that can't be read is told at once, whichever command has it, and before a service is asked."""
    for arguments in (
        ("examples", "add", "-t", "t", "-l", "l", "text", "--expires"),
        ("audit", "list", "--since"),
        ("feedback", "revoke", "--source", "s", "--since"),
    ):
        done = run(*arguments, "tomorrow")
        assert (done.returncode, "is no time such as" in done.stderr) == (2, True), arguments


def test_an_out_of_scope_label_that_nothing_has_is_wrong_usage(tmp_path: Path) -> None:
    """A label that `evaluate --oos` names and no text has is mistyped, and would tell of nothing out of scope."""
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "out_of_scope"}\n')
    done = run("evaluate", "--examples", str(file), "--messages", str(file), "--oos", "out_of_scop")
    assert (done.returncode, "'out_of_scop'" in done.stderr) == (2, True)


def test_every_setting_of_a_policy_can_be_changed(plain: Server) -> None:
    """What the README's table of policies has, but the pool, `tasks update` changes, also for single labels."""
    plain.cli("tasks", "create", "t", "-l", "a", "-l", "b")
    changed = plain.cli(
        "tasks", "update", "t", "-k", "7", "--temperature", "0.2", "--surface-weight", "0.3", "--surface-exponent", "2",
        "--max-group-share", "0.25", "--class-size-exponent", "0.5", "--similarity-floor", "0.1",
        "--scope-floor", "0.4", "--margin-floor", "0.05", "--score-threshold", "0.6", "--abstention-action", "review",
        "--review-score", "a=0.5", "--block-score", "a=0.9",
        "--label-threshold", "b=0.7", "--label-margin-floor", "b=0.2",
    )  # fmt: skip
    assert changed.returncode == 0, changed.stderr
    policy = json.loads(plain.cli("tasks", "show", "t").stdout)["policy"]
    none = dict.fromkeys(("review_score", "block_score", "score_threshold", "margin_floor"))
    labels = policy.pop("labels")
    assert {label: {**none, **own} for label, own in labels.items()} == {
        "a": none | {"review_score": 0.5, "block_score": 0.9},
        "b": none | {"score_threshold": 0.7, "margin_floor": 0.2},
    }
    policy.pop("pool", None)
    assert policy == {
        "k": 7, "temperature": 0.2, "surface_weight": 0.3, "surface_exponent": 2, "max_group_share": 0.25,
        "class_size_exponent": 0.5, "similarity_floor": 0.1, "scope_floor": 0.4, "margin_floor": 0.05,
        "score_threshold": 0.6, "abstention_action": "review",
    }  # fmt: skip
    never = plain.cli("tasks", "update", "t", "--block-score", "a=0.3")
    assert (never.returncode, "never reviewed" in never.stderr) == (1, True)


def test_a_file_that_is_not_there_is_wrong_usage(plain: Server) -> None:
    """A missing file ends with 2 and its name."""
    done = plain.cli("examples", "import", "-t", "spam", "/nowhere.jsonl")
    assert done.returncode == 2
    assert "/nowhere.jsonl" in done.stderr


def test_tasks_are_created_changed_and_deleted(plain: Server, tmp_path: Path) -> None:
    """A task's labels and policy come from flags or a file, and every flag takes effect."""
    flags = {
        "--temperature": ("temperature", "0.25"),
        "--class-size-exponent": ("class_size_exponent", "0.5"),
        "--similarity-floor": ("similarity_floor", "0.0"),
        "--margin-floor": ("margin_floor", "0.0"),
        "--score-threshold": ("score_threshold", "0.75"),
        "-k": ("k", "7"),
    }
    done = plain.cli(
        "tasks", "create", "mood", "-l", "happy", "-l", "sad", "-l", "none", "--multi-label", "--benign", "none",
        *(part for flag, (_, value) in flags.items() for part in (flag, value)),
        "--review-score", "sad=0.4", "--block-score", "sad=0.9", "--abstention-action", "review",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = json.loads(plain.cli("tasks", "show", "mood").stdout)
    for name, value in flags.values():
        assert shown["policy"][name] == float(value)
    assert shown["policy"]["labels"]["sad"] | {} == {
        "review_score": 0.4, "block_score": 0.9, "score_threshold": None, "margin_floor": None,
    }  # fmt: skip
    assert shown["multi_label"]
    assert plain.cli("tasks", "update", "mood", "--add-label", "angry", "--remove-label", "happy").returncode == 0
    file = tmp_path / "task.json"
    shown = json.loads(plain.cli("tasks", "show", "mood").stdout)
    assert [label["name"] for label in shown["labels"]] == ["sad", "none", "angry"]
    file.write_text(json.dumps({**shown, "name": "mood2"}))
    assert plain.cli("tasks", "create", "--file", str(file)).returncode == 0
    names = [json.loads(line)["name"] for line in plain.cli("tasks", "list", "--json").stdout.splitlines()]
    assert names == ["mood", "mood2", "spam"]
    assert plain.cli("tasks", "delete", "mood2").returncode == 0
    assert plain.cli("tasks", "show", "mood2").returncode == 1
    assert plain.cli("tasks", "update", "mood").returncode == 2
    assert plain.cli("tasks", "update", "mood", "--review-score", "sad").returncode == 2


def test_actions_follow_scores(plain: Server) -> None:
    """A policy's scores lead to actions, and an abstention to its own."""
    plain.cli(
        "tasks",
        "update",
        "spam",
        "--block-score",
        "spam=0.9",
        "--review-score",
        "spam=0.5",
        "--abstention-action",
        "review",
    )
    plain.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize")
    plain.cli("examples", "add", "-t", "spam", "-l", "ham", "see you tomorrow")

    def action(text: str) -> str:
        return str(json.loads(plain.cli("classify", "--json", "-t", "spam", text).stdout)["action"])

    assert [action("win a prize"), action("see you tomorrow"), action("")] == ["block", "allow", "review"]


def test_info_tells_what_runs(plain: Server) -> None:
    """`info` names version, store, encoder, limits, tasks and examples."""
    plain.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize")
    info = json.loads(plain.cli("info", "--json").stdout)
    assert (info["version"], info["store"], info["encoder"]["model"]) == (VERSION, "edge", "hashing")
    assert info["tasks"][0]["label_counts"] == {"spam": 1, "ham": 0}
    assert info["limits"]["max_text_bytes"] == 65_536
    assert "hashing" in plain.cli("info").stdout


def test_odd_arguments_are_wrong_usage_or_taken(plain: Server, tmp_path: Path) -> None:
    """Numbers out of range end with 2; bytes that are not UTF-8 become question marks; nothing prints a traceback."""
    for arguments in (["classify", "-k", "-1", "a"], ["classify", "--neighbors", "-1", "a"]):
        assert plain.cli(*arguments).returncode == 2
    taken = plain.cli("classify", "--json", "-t", "spam", "a\udcff")
    assert json.loads(taken.stdout)["text"] == "a?"
    assert plain.cli("examples", "add", "-t", "spam", "-l", "spam", "a\udcff").returncode == 0
    missing = tmp_path / "nowhere" / "out.jsonl"
    refused = plain.cli("examples", "export", "-t", "spam", "-o", str(missing))
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert plain.cli("examples", "export", "-t", "nope", "-o", str(tmp_path / "out.jsonl")).returncode == 1
    assert list(tmp_path.glob("*out*")) == []
    for arguments in (["--remove-label", "nope"], ["--add-label", "ham"], ["--abstention-action", "explode"]):
        assert plain.cli("tasks", "update", "spam", *arguments).returncode == 2
    typo = tmp_path / "task.json"
    typo.write_text('{"name": "x", "labels": [{"name": "a"}], "polcy": {}}')
    assert "polcy" in plain.cli("tasks", "create", "--file", str(typo)).stderr


def test_actions_can_be_taken_back(plain: Server) -> None:
    """A score and an action that were set are unset again."""
    plain.cli("tasks", "update", "spam", "--block-score", "spam=0.9", "--abstention-action", "review")
    assert plain.cli("tasks", "update", "spam", "--block-score", "spam=", "--abstention-action", "none").returncode == 0
    policy = json.loads(plain.cli("tasks", "show", "spam").stdout)["policy"]
    assert (policy["labels"], policy["abstention_action"]) == ({}, None)


def test_an_import_fits_what_the_service_takes(start: Start, tmp_path: Path) -> None:
    """A file is sent in messages that a service of small limits takes; a line too large to be sent is told."""
    server = start(NEARVOTE_MAX_BATCH_TEXTS="7", NEARVOTE_MAX_REQUEST_BYTES="5000", NEARVOTE_MAX_TEXT_BYTES="900")
    server.cli("tasks", "create", "spam", "-l", "spam")
    file = tmp_path / "examples.jsonl"
    lines = [json.dumps({"text": f"{i} " + "long " * (170 if i % 2 else 1), "label": "spam"}) for i in range(60)]
    file.write_text("\n".join([*lines, json.dumps({"text": "x" * 9_000_000, "label": "spam"})]))
    done = server.cli("examples", "import", "-t", "spam", "--skip-invalid", str(file))
    assert "60 examples imported, 60 of them new; 1 lines invalid" in done.stdout, done.stderr
    assert "line 61: " in done.stderr
