"""Which collections of the engine there are: the examples of vector spaces, documents, and corrections."""

from collections.abc import Callable
from dataclasses import replace

from nearvote.clock import system_us
from nearvote.examples.engine import Engine, Found, Schema
from nearvote.examples.example import Example
from nearvote.examples.payload import example_of
from nearvote.examples.places import (
    EXAMPLES_PREFIX,
    FEEDBACK_COLLECTION,
    SPACE_DOCUMENT,
    SPACE_DOCUMENT_ID,
    Place,
    Places,
    Source,
    collection_of,
    current_schema,
    read_places,
    replace_places,
    stored_places,
    with_source,
    write_places,
)
from nearvote.examples.qdrant_store import STATE_COLLECTION, QdrantStore
from nearvote.examples.store import VectorSpace
from nearvote.startup_errors import EncoderMismatch
from nearvote.voting.metric import Slot
from nearvote.voting.neighbor import View

_STATE_PREFIX = f"{STATE_COLLECTION}_"  # of further collections of documents
_FEEDBACK_PREFIX = f"{FEEDBACK_COLLECTION}_"  # of collections of corrections that a restore has made
_STATE_SCHEMA = Schema(dense={}, tenant="tenant", keywords=("kind",))
_FEEDBACK_SCHEMA = Schema(
    dense={}, tenant="tenant", keywords=("task", "state", "source", "example_id"), integers=("created_hour",)
)

# Known by their names whichever examples are active: the record of changes, and answers that are soon forgotten.
AUDIT_COLLECTION = "nearvote_audit"
EXPLANATION_COLLECTION = "nearvote_explanations"

# Kinds of documents in the collection known by its name that are of no place: the one that names what is active, and
# leases, which say who is at work.
_OF_THE_STORE = {SPACE_DOCUMENT[0], "lease"}
_PAGE = 1_000


async def stored_space(engine: Engine) -> VectorSpace | None:
    """The vector space of the stored examples; None when nothing is stored yet."""
    places = await stored_places(engine)
    return places.space if places else None


async def stored_examples(engine: Engine, limit: int) -> list[Example]:
    """Some of the stored examples, in the order of their ids; none when nothing is stored yet."""
    places = await stored_places(engine)
    found: list[Example] = []
    next_id = None
    while places is not None and len(found) < limit:
        points, next_id = await engine.scroll(places.examples, {"window": 0}, _PAGE, next_id)
        found += map(example_of, points)
        if next_id is None:
            break
    return found[:limit]


async def open_store(
    engine: Engine, space: VectorSpace, now_us: Callable[[], int] = system_us, *, source: Source | None = None
) -> QdrantStore:
    """Opens the store of a vector space; creates it where nothing is stored yet, by a clock in microseconds.

    Args:
        engine: Where.
        space: The vector space.
        now_us: The time, in microseconds since 1970-01-01 UTC, by which examples end.
        source: What loads its encoder, to be kept with it; what is known already when None.

    Raises:
        EncoderMismatch: The stored vectors are of another space.
        StoreTooNew: A later version has laid the store out.
    """
    read = await read_places(engine)
    if read is None:
        store = await create_space(engine, space, now_us)
        await activate_space(engine, store, space, FEEDBACK_COLLECTION, source)
        return store
    places, revision = read
    stored = places.space
    if stored.key != space.key:
        if stored.model == space.model:
            raise EncoderMismatch(
                f"the stored vectors are of {stored.model} in another version, precision, or way of reading texts "
                f"({stored.key}, and now it would be {space.key}): set `html`, `precision` and `model_revision` as "
                f"they were, or embed the examples again by `nearvote reindex --model {space.model}` with the settings "
                "that the service is to have, and its --data-dir"
            )
        raise EncoderMismatch(
            f"the stored vectors are of {stored.model} ({stored.key}), and this encoder is {space.model} "
            f"({space.key}): start with the former, or embed the examples again with "
            f"`nearvote reindex --model {space.model}`"
        )
    known = source or places.active.source
    alone = engine.kind == "edge"  # whoever was about to switch has ended
    if known != places.active.source or (alone and places.switching_until_us):
        until = 0 if alone else places.switching_until_us
        now = replace(places, active=with_source(places.active, known), switching_until_us=until)
        await replace_places(engine, now, revision)  # overtaken, another replica has done it
    # An earlier version may have left out an index.
    await engine.create_collection(places.examples, _examples_schema(space))
    return store_of(engine, places.active, now_us)


def store_of(engine: Engine, place: Place, now_us: Callable[[], int] = system_us) -> QdrantStore:
    """The store of a place that is there."""
    return QdrantStore(engine, place.examples, place.state, now_us)


async def open_feedback_collection(engine: Engine) -> str:
    """Name of the collection of the active corrections, which is created where there is none."""
    places = await stored_places(engine)
    return await create_feedback_collection(engine, places.feedback if places else FEEDBACK_COLLECTION)


async def create_feedback_collection(engine: Engine, name: str) -> str:
    """A collection for corrections, and its name."""
    await engine.create_collection(name, _FEEDBACK_SCHEMA)
    return name


async def create_space(
    engine: Engine,
    space: VectorSpace,
    now_us: Callable[[], int] = system_us,
    *,
    state: str = STATE_COLLECTION,
    suffix: str = "",
) -> QdrantStore:
    """A store for a vector space, beside the active one.

    Args:
        engine: Where.
        space: The vector space.
        now_us: The time, in microseconds since 1970-01-01 UTC, by which examples end.
        state: The collection of its documents.
        suffix: Of the name of its examples' collection, where one of the space is there already.
    """
    for name in {STATE_COLLECTION, state}:
        await engine.create_collection(name, _STATE_SCHEMA)
    await engine.create_collection(f"{collection_of(space)}{suffix}", _examples_schema(space))
    return QdrantStore(engine, f"{collection_of(space)}{suffix}", state, now_us)


async def activate_space(
    engine: Engine, store: QdrantStore, space: VectorSpace, feedback: str, source: Source | None = None
) -> None:
    """Makes a store the one that is served from the next start on. One write: the old one or the new one.

    What is new is on the disk before it is named, and its name before this returns and the old may go: a machine that
    loses power meanwhile has one of them whole.

    Args:
        engine: Where.
        store: The examples and documents.
        space: The examples' vector space.
        feedback: The collection of corrections.
        source: What loads the encoder; None where that is not known.
    """
    there = await engine.collections()
    for name in (*store.collections.values(), feedback):
        if name in there:  # corrections are not, as long as no service has run
            await engine.flush(name)
    await write_places(engine, Places(place_of(store, space, source), feedback))
    await engine.flush(STATE_COLLECTION)


def place_of(store: QdrantStore, space: VectorSpace, source: Source | None = None) -> Place:
    """Where a store that was just created is."""
    names = store.collections
    return Place(space, names["examples"], names["state"], source or Source(), current_schema())


async def drop_inactive(engine: Engine) -> None:
    """Deletes what a reindexing or a restore has replaced, or left behind when it was cut short.

    What was served before, and what is being built, is named with what is active, and stays.
    """
    places = await stored_places(engine)
    kept = {STATE_COLLECTION, *(places.collections if places else ())}
    for name in await engine.collections():
        if _is_replaceable(name) and name not in kept:
            await engine.drop_collection(name)
    if places is not None and STATE_COLLECTION not in places.collections:
        while True:
            found, following = await engine.scroll(STATE_COLLECTION, {}, _PAGE, None)
            kinds = {point.payload["kind"] for point in found} - _OF_THE_STORE
            for kind in kinds:
                await engine.delete(STATE_COLLECTION, {"kind": kind})
            if following is None or not kinds:
                return


def new_state_name(mark: str) -> str:
    """The name of a collection of documents beside the active one."""
    return f"{_STATE_PREFIX}{mark}"


def new_feedback_name(mark: str) -> str:
    """The name of a collection of corrections beside the active one."""
    return f"{_FEEDBACK_PREFIX}{mark}"


def is_known(name: str) -> bool:
    """Whether a collection is one of those that are made here."""
    return name in {STATE_COLLECTION, AUDIT_COLLECTION, EXPLANATION_COLLECTION} or _is_replaceable(name)


def _is_replaceable(name: str) -> bool:
    return name == FEEDBACK_COLLECTION or name.startswith((_STATE_PREFIX, EXAMPLES_PREFIX, _FEEDBACK_PREFIX))


def is_space_document(point: Found) -> bool:
    """Whether a point is the document that names the active collections."""
    return point.id == SPACE_DOCUMENT_ID


def vector_names(collection: str, space: VectorSpace) -> tuple[str, ...]:
    """Names of the vectors that points of `examples` may have; those of other collections have none."""
    schema = _examples_schema(space) if collection == "examples" else _STATE_SCHEMA
    return (*schema.dense, *schema.sparse)


def _examples_schema(space: VectorSpace) -> Schema:
    return Schema(
        dense=dict.fromkeys((View.MEANING.value, *(slot.value for slot in Slot)), space.dimension),
        sparse=(View.SURFACE.value,),
        tenant="tenant",
        keywords=("task", "labels", "source", "subject", "example_id"),
        integers=("window",),
        times=("expires_us",),
    )
