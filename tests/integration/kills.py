"""Kills the real server at moments drawn by chance, starts it again, and compares with what it acknowledged."""

import itertools
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nearvote import Client
from nearvote.client.errors import ServiceUnreachable
from nearvote.examples.example import Draft
from nearvote.learn.jobs import JobState
from nearvote.seeding import seed_examples, shipped_seeds
from nearvote.tasks.task import Label, Task
from nearvote.voting.policy import Policy
from tests.integration.server import Server
from tests.integration.stored import whats_wrong

KINDS = ("fit", "import", "delete", "fit", "batch", "tasks", "mixed", "start", "seeding")

_FLAGS = ("--model", "hashing", "--metrics-address", "off")
_TASKS = ("plain", "fitted")
# Ten texts of each of ten intents: a learned metric does better there than the plain one, so a fit fills a slot.
_LEARNED_FROM = 10
_LABELS = 10
_FITTED_SHARE = 0.05
_LONGEST_WORK_SECONDS = {"fit": 3.0, "mixed": 3.0, "seeding": 4.0, "start": 1.2}
_LONGEST_SWITCH_SECONDS = 0.03
_OTHER_WORK_SECONDS = 0.8

_SWITCHES_FROM = 0.9  # of a fit's progress

Labels = tuple[str, ...] | None  # of an example; None where there is none
Key = tuple[str, str]  # task and text


@dataclass(slots=True)
class Ledger:
    """What the service has acknowledged, and what was asked of it and not answered.

    Attributes:
        examples: The labels of each example that was ever written; None for one that was deleted.
        doubtful: What an example may be as well, since no answer came.
        tasks: Their `k`, by name; None for one that was deleted.
        doubtful_tasks: What it may be as well.
        fit_version: The last fit known to have been switched in.
        acknowledged: How many writes were acknowledged, by kind.
    """

    examples: dict[Key, Labels] = field(default_factory=dict)
    doubtful: dict[Key, set[Labels]] = field(default_factory=dict)
    tasks: dict[str, int | None] = field(default_factory=dict)
    doubtful_tasks: dict[str, set[int | None]] = field(default_factory=dict)
    fit_version: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)

    def asked(self, key: Key, labels: Labels) -> None:
        """A write goes out."""
        self.doubtful.setdefault(key, set()).add(labels)

    def answered(self, key: Key, labels: Labels, kind: str) -> None:
        """Its answer came."""
        self.examples[key] = labels
        self.doubtful.pop(key, None)
        self.acknowledged[kind] += 1

    def settle(self, stored: dict[Key, tuple[str, ...]]) -> list[str]:
        """Compares with what is stored, which becomes what is known. Returns what is wrong."""
        wrong = []
        for key in self.examples.keys() | self.doubtful.keys() | stored.keys():
            may_be = {self.examples.get(key)} | self.doubtful.get(key, set())
            if stored.get(key) not in may_be:
                wrong.append(f"{key[0]}: {key[1][:20]!r} is {stored.get(key)}, and should be one of {may_be}")
        self.examples = {**dict.fromkeys(self.examples, None), **stored}
        self.doubtful.clear()
        return wrong

    def settle_tasks(self, stored: dict[str, int]) -> list[str]:
        """As `settle`, for the tasks that come and go."""
        wrong = []
        for name in self.tasks.keys() | self.doubtful_tasks.keys() | stored.keys():
            may_be = {self.tasks.get(name)} | self.doubtful_tasks.get(name, set())
            if stored.get(name) not in may_be:
                wrong.append(f"task {name} has k {stored.get(name)}, and should have one of {may_be}")
        self.tasks = {**dict.fromkeys(self.tasks, None), **stored}
        self.doubtful_tasks.clear()
        return wrong


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: what the service was doing, what it had acknowledged by then, and what was wrong afterwards."""

    kind: str
    acknowledged: Counter[str]
    wrong: list[str]
    restart_seconds: float


class Victim:
    """A server on a folder of its own, to be killed again and again.

    Args:
        folder: Where its data go.
        seed: Of all that is left to chance.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._server = Server(folder / "data", *_FLAGS, "--no-seeds")
        self._ledger = Ledger()
        self._switching = threading.Event()  # a fit writes what it has learned
        self._numbers = itertools.count()
        self._seeds = some_seeds()
        self._labels = tuple(self._seeds)

    def begin(self) -> None:
        """Starts it on an empty folder, with two tasks, one of them fitted."""
        self._server.start()
        with self._server.client() as client:
            for task in _TASKS:
                client.create_task(Task(task, tuple(map(Label, self._labels))))
            drafts = [Draft("fitted", text, (label,)) for label, texts in self._seeds.items() for text in texts]
            self._add(client, drafts)
            self._fit(client)
            assert client.get_fit("fitted").in_metric, "no metric is learned that a kill could tear"

    def end(self) -> None:
        """Stops it for good."""
        self._server.stop(signal.SIGKILL)

    def kill(self, kind: str) -> Kill:
        """Lets it work, kills it, starts it again, and compares."""
        self._ledger.acknowledged.clear()
        if kind == "seeding":
            return self._kill_seeding()
        if kind == "start":
            self._server.stop(signal.SIGKILL)
            self._kill_start(self._server)
        else:
            self._kill_work(kind)
        acknowledged = Counter(self._ledger.acknowledged)
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["cp", "-a", self._folder / "data", copy], check=True)
        wrong = whats_wrong(copy)
        began = time.perf_counter()
        self._server.start()
        restart_seconds = time.perf_counter() - began
        wrong += self._compare()
        return Kill(kind, acknowledged, wrong, restart_seconds)

    def _kill_work(self, kind: str) -> None:
        work: dict[str, tuple[Callable[[Client], None], ...]] = {
            "import": (self._import,),
            "batch": (self._batch,),
            "delete": (self._delete,),
            "fit": (self._fit_anew,),
            "tasks": (self._change_tasks,),
            "mixed": (self._import, self._batch, self._delete, self._fit_anew, self._change_tasks),
        }
        self._switching.clear()
        threads = [threading.Thread(target=self._until_killed, args=(one,)) for one in work[kind]]
        for thread in threads:
            thread.start()
        if kind == "fit" and self._chance.random() < 0.7:  # most of a fit writes nothing: what may be torn is its end
            assert self._switching.wait(60)
            time.sleep(self._chance.uniform(0, _LONGEST_SWITCH_SECONDS))
        else:
            time.sleep(self._chance.uniform(0.01, _LONGEST_WORK_SECONDS.get(kind, _OTHER_WORK_SECONDS)))
        self._server.stop(signal.SIGKILL)
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()

    def _until_killed(self, work: Callable[[Client], None]) -> None:
        with self._server.client() as client:
            try:
                while True:
                    work(client)
            except ServiceUnreachable:
                return

    def _kill_start(self, server: Server) -> None:
        for _ in range(self._chance.randint(1, 3)):
            server.launch()
            time.sleep(self._chance.uniform(0, _LONGEST_WORK_SECONDS["start"]))
            server.stop(signal.SIGKILL)

    def _kill_seeding(self) -> Kill:
        folder = self._folder / f"seeded{self._chance.random()}"
        server = Server(folder, *_FLAGS)
        for _ in range(self._chance.randint(1, 2)):
            server.launch()
            time.sleep(self._chance.uniform(0, _LONGEST_WORK_SECONDS["seeding"]))
            server.stop(signal.SIGKILL)
        began = time.perf_counter()
        server.start()
        restart_seconds = time.perf_counter() - began
        with server.client() as client:
            stored = [example for task in client.list_tasks() for example in client.export_examples(task.name)]
            wrong = _doubles([example.id for example in stored])
            expected = {
                (draft.task, draft.text): tuple(sorted(draft.labels)) for draft in seed_examples(shipped_seeds())
            }
            if {(example.task, example.text): example.labels for example in stored} != expected:
                wrong.append("the seeds are not those that ship")
        server.stop(signal.SIGKILL)
        wrong += whats_wrong(folder)
        shutil.rmtree(folder)
        return Kill("seeding", Counter(), wrong, restart_seconds)

    def _compare(self) -> list[str]:
        with self._server.client() as client:
            tasks = {task.name: task for task in client.list_tasks()}
            examples = [example for name in _TASKS for example in client.export_examples(name)]
            wrong = _doubles([example.id for example in examples])
            wrong += self._ledger.settle({(example.task, example.text): example.labels for example in examples})
            wrong += self._ledger.settle_tasks(
                {name: task.policy.k for name, task in tasks.items() if name not in _TASKS}
            )
            counts = Counter(example.task for example in examples)
            wrong += [
                f"{task.name} counts {task.example_count} examples, and has {counts[task.name]}"
                for task in client.info().tasks
                if task.name in _TASKS and task.example_count != counts[task.name]
            ]
            fitted = tasks["fitted"]
            if fitted.fit_version < self._ledger.fit_version:
                wrong.append(f"fit {self._ledger.fit_version} had been switched in, and {fitted.fit_version} serves")
            self._ledger.fit_version = fitted.fit_version
            if client.get_fit("fitted").version != fitted.fit_version:
                wrong.append("another fit is kept than serves")
            wrong += self._classified(client)
        return wrong

    def _classified(self, client: Client) -> list[str]:
        """Messages that are examples have their labels, and others are answered."""
        wrong = []
        for label, texts in self._seeds.items():
            known, new = client.classify_batch([texts[0], f"{texts[0]} {texts[1]}"], list(_TASKS))
            if known.predictions[1].labels != (label,):
                wrong.append(f"an example of {label} is {known.predictions[1].labels}")
            if not new.predictions[1].neighbors:
                wrong.append("nobody votes")
        return wrong

    def _import(self, client: Client) -> None:
        chunks: list[list[tuple[int, Draft]]] = []

        def sent() -> Iterator[Sequence[tuple[int, Draft]]]:
            for number in range(50):
                chunk = [(number, self._draft(self._some_task())) for _ in range(self._chance.randint(1, 40))]
                for _, draft in chunk:
                    self._ledger.asked((draft.task, draft.text), draft.labels)
                chunks.append(chunk)
                yield chunk

        for number, progress in enumerate(client.import_examples(sent())):
            assert progress.accepted_count == len(chunks[number])
            for _, draft in chunks[number]:
                self._ledger.answered((draft.task, draft.text), draft.labels, "import")

    def _batch(self, client: Client) -> None:
        drafts = [self._draft(self._some_task()) for _ in range(self._chance.randint(1, 20))]
        known = self._present("plain")
        some = self._chance.sample(known, min(len(known), 5))  # and some that change their label
        drafts += [Draft("plain", text, (self._chance.choice(self._labels),)) for text in some]
        self._add(client, drafts)

    def _add(self, client: Client, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            self._ledger.asked((draft.task, draft.text), draft.labels)
        client.add_examples(drafts)
        for draft in drafts:
            self._ledger.answered((draft.task, draft.text), draft.labels, "batch")

    def _delete(self, client: Client) -> None:
        # Of the fitted task: its examples are relabelled by nobody, so that there is one truth about each.
        for text in self._chance.sample(
            known := self._present("fitted")[_LABELS * _LEARNED_FROM :], min(len(known), 20)
        ):
            (found,) = client.search_examples("fitted", text, limit=1)
            key = ("fitted", found.example.text)
            if key in self._ledger.doubtful or self._ledger.examples.get(key) is None:
                continue
            self._ledger.asked(key, None)
            client.delete_example("fitted", found.example.id)
            self._ledger.answered(key, None, "delete")
        if not known:
            self._batch(client)

    def _fit_anew(self, client: Client) -> None:
        # Of other examples each time: two metrics that are alike can be taken for one another unseen.
        self._add(client, [self._draft("fitted") for _ in range(5)])
        self._fit(client)

    def _fit(self, client: Client) -> None:
        job = client.start_fit("fitted")
        while job.state is JobState.RUNNING:
            time.sleep(0.002)
            job = client.fit_job(job.id)
            if job.progress >= _SWITCHES_FROM:
                self._switching.set()
        if job.fit is not None:
            self._ledger.fit_version = job.fit.version
            self._ledger.acknowledged["fit"] += 1

    def _change_tasks(self, client: Client) -> None:
        name = f"task{self._chance.randint(0, 5)}"
        before = self._ledger.tasks.get(name)
        k: int | None = self._chance.randint(1, 50)
        if before is not None and self._chance.random() < 0.3:
            k = None
        self._ledger.doubtful_tasks.setdefault(name, set()).add(k)
        if k is None:
            client.delete_task(name, force=True)
        elif before is None:
            client.create_task(Task(name, tuple(map(Label, self._labels)), policy=Policy(k=k)))
        else:
            client.update_task(Task(name, tuple(map(Label, self._labels)), policy=Policy(k=k)), ["policy.k"])
        self._ledger.tasks[name] = k
        self._ledger.doubtful_tasks.pop(name)
        self._ledger.acknowledged["tasks"] += 1

    def _present(self, task: str) -> list[str]:
        examples = dict(self._ledger.examples)  # a copy: other threads write
        doubtful = set(self._ledger.doubtful)
        return [key[1] for key, labels in examples.items() if key[0] == task and labels and key not in doubtful]

    def _some_task(self) -> str:
        return "fitted" if self._chance.random() < _FITTED_SHARE else "plain"  # few: a fit is to come to its end

    def _draft(self, task: str) -> Draft:
        label = self._chance.choice(self._labels)
        words = [self._chance.choice(self._seeds[label]), f"number{next(self._numbers)}"]
        if self._chance.random() < 0.05:  # a long one: several windows, which belong together
            words += [f"word{self._chance.randint(0, 400)}" for _ in range(200)]
        return Draft(task, " ".join(words), (label,))


def some_seeds(first: int = 0, count: int = _LEARNED_FROM) -> dict[str, list[str]]:
    """Texts of ten intents, so many of each after the first few, by label."""
    texts: dict[str, list[str]] = {}
    for draft in seed_examples(shipped_seeds()):
        if draft.task == "intent":
            texts.setdefault(draft.labels[0], []).append(draft.text)
    return {label: texts[label][first : first + count] for label in sorted(texts)[:_LABELS]}


def _doubles(ids: Sequence[str]) -> list[str]:
    return [f"{id_} is there {count} times" for id_, count in Counter(ids).items() if count > 1]
