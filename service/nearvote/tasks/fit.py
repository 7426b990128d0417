"""What was learned from a task's examples: metric, prototypes, policy, and how well they did."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from nearvote.voting.metric import LinearMetric
from nearvote.voting.policy import Policy
from nearvote.voting.prototypes import Prototypes

_POLICY = TypeAdapter(Policy)
# Of the format of documents; one of another format is not read.
_FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """One version of what was learned for a task.

    Attributes:
        version: From 1, for each task.
        metric: The learned metric; None where there was nothing to learn it from.
        in_metric: Whether neighbours are searched in the metric, or in the plain one, which did as well.
        prototypes: The labels' prototypes.
        policy: The policy chosen with them.
        replaced_version: The fit that served before; 0 for none.
        replaced_policy: The policy that served before.
        created_us: When its examples were read, in microseconds since 1970-01-01 UTC.
        unfitted_policy: The policy from before the first fit.
        figures: What it reached on the examples, each judged by those of other folds, or on
            validation messages; by name.
    """

    version: int
    metric: LinearMetric | None
    in_metric: bool
    prototypes: Prototypes | None
    policy: Policy
    replaced_version: int
    replaced_policy: Policy
    created_us: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)
    unfitted_policy: Policy = field(default_factory=Policy)


def fit_to_document(fit: Fit) -> dict[str, Any]:
    """A fit as JSON values. Arrays are stored as half floats: their rounding is below that of the encoder."""
    prototypes = fit.prototypes
    return {
        "format": _FORMAT,
        "version": fit.version,
        "in_metric": fit.in_metric,
        "metric": None if fit.metric is None else _packed(fit.metric.matrix, np.float16),
        "prototypes": None
        if prototypes is None
        else {
            "labels": list(prototypes.labels),
            "multi_label": prototypes.multi_label,
            "meaning": _packed(prototypes.meaning, np.float16),
            "meaning_bias": _packed(prototypes.meaning_bias, np.float32),
            "plain": _packed(prototypes.plain, np.float16),
            "plain_bias": _packed(prototypes.plain_bias, np.float32),
            "buckets": _packed(prototypes.buckets, np.uint32),
            "rarity": _packed(prototypes.rarity, np.float32),
            "unknown_rarity": prototypes.unknown_rarity,
            "surface": _packed(prototypes.surface, np.float16),
            "surface_bias": _packed(prototypes.surface_bias, np.float32),
        },
        "policy": _POLICY.dump_python(fit.policy, mode="json"),
        "replaced_version": fit.replaced_version,
        "replaced_policy": _POLICY.dump_python(fit.replaced_policy, mode="json"),
        "unfitted_policy": _POLICY.dump_python(fit.unfitted_policy, mode="json"),
        "created_us": fit.created_us,
        "figures": dict(fit.figures),
    }


def fit_from_document(document: Mapping[str, Any]) -> Fit:
    """A fit of JSON values.

    Raises:
        ValueError: It is of another format.
    """
    if document.get("format") != _FORMAT:
        raise ValueError(f"a fit of format {document.get('format')} can't be read by this version")
    prototypes = document["prototypes"]
    return Fit(
        version=document["version"],
        metric=None if document["metric"] is None else LinearMetric(_floats(document["metric"])),
        in_metric=document["in_metric"],
        prototypes=None
        if prototypes is None
        else Prototypes(
            labels=tuple(prototypes["labels"]),
            multi_label=prototypes["multi_label"],
            meaning=_floats(prototypes["meaning"]),
            meaning_bias=_floats(prototypes["meaning_bias"]),
            plain=_floats(prototypes["plain"]),
            plain_bias=_floats(prototypes["plain_bias"]),
            buckets=_unpacked(prototypes["buckets"]).astype(np.uint32),
            rarity=_floats(prototypes["rarity"]),
            unknown_rarity=prototypes["unknown_rarity"],
            surface=_floats(prototypes["surface"]),
            surface_bias=_floats(prototypes["surface_bias"]),
        ),
        policy=_POLICY.validate_python(document["policy"]),
        replaced_version=document["replaced_version"],
        replaced_policy=_POLICY.validate_python(document["replaced_policy"]),
        unfitted_policy=_POLICY.validate_python(document["unfitted_policy"]),
        created_us=document["created_us"],
        figures=document["figures"],
    )


def as_stored(fit: Fit) -> Fit:
    """The fit as it comes back from the store, so that what is projected before and after a restart is the same."""
    return fit_from_document(fit_to_document(fit))


def _packed(array: npt.NDArray[Any], dtype: type[np.generic]) -> dict[str, Any]:
    return {
        "shape": list(array.shape),
        "dtype": np.dtype(dtype).newbyteorder("<").str,
        "data": base64.b64encode(array.astype(np.dtype(dtype).newbyteorder("<")).tobytes()).decode("ascii"),
    }


def _unpacked(packed: Mapping[str, Any]) -> npt.NDArray[Any]:
    array = np.frombuffer(base64.b64decode(packed["data"]), packed["dtype"])
    return array.reshape(packed["shape"])


def _floats(packed: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    return _unpacked(packed).astype(np.float32)
