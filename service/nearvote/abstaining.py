"""Labelling while the store does not answer: an abstention that says so, where the service is set to it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from nearvote.classify import Classification, Classifies, Options, StageTimings
from nearvote.embedding.encoder import EncoderSpec
from nearvote.errors import StoreUnavailable
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.task import Task
from nearvote.voting.prediction import AbstentionReason, Prediction, abstain


class AbstainingClassifier:
    """A classifier that abstains where another one's store fails.

    What it abstains from are the tasks as they were last read. Where none were, the failure stays what it is: nobody
    knows which tasks there are, and what their policies have done with what they don't know.

    Args:
        classifier: The other one.
        tasks: Knows the tasks.
        spec: The encoder's.
        failed: Told of each failure that an abstention stands for.
    """

    def __init__(
        self, classifier: Classifies, tasks: TaskRegistry, spec: EncoderSpec, failed: Callable[[StoreUnavailable], None]
    ) -> None:
        self._classifier = classifier
        self._tasks = tasks
        self._spec = spec
        self._failed = failed

    async def classify(
        self, tenant: str, texts: Sequence[str], tasks: Sequence[str], options: Options
    ) -> list[Classification]:
        """Labels messages, or abstains from all of the call's.

        Raises:
            StoreUnavailable: The store did not answer, and a task that is asked was never read.
        """
        began = time.perf_counter()
        try:
            return await self._classifier.classify(tenant, texts, tasks, options)
        except StoreUnavailable as error:
            known = self._tasks.last_read(tenant)
            if not known or not set(tasks) <= known.keys():
                raise
            self._failed(error)
            predictions = tuple(_abstention(known[name]) for name in tasks or sorted(known))
        timings = StageTimings(search=time.perf_counter() - began)
        return [Classification(predictions, 0, self._spec.revision, timings, self._spec.key) for _ in texts]


def _abstention(task: Task) -> Prediction:
    prediction = abstain(task.name, task.rules, AbstentionReason.STORE_UNAVAILABLE)
    return replace(prediction, policy_version=task.policy_version)
