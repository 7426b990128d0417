"""The document that names what is active: one write of it switches from old collections to new ones, on either engine.

It stands in a collection that is known by its name, wherever the other documents are.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nearvote.examples.engine import Engine
from nearvote.examples.qdrant_store import STATE_COLLECTION, QdrantStore, Revision, document_id
from nearvote.examples.readable import readable
from nearvote.examples.store import VectorSpace
from nearvote.startup_errors import StoreTooNew

# How the collections are laid out. What has no version is of the first; a later one is not opened.
SCHEMA_VERSION = 1

EXAMPLES_PREFIX = "nearvote_examples_"
FEEDBACK_COLLECTION = "nearvote_feedback"
SPACE_DOCUMENT = ("space", "", "active")  # its kind, tenant and name
SPACE_DOCUMENT_ID = document_id(*SPACE_DOCUMENT)


@dataclass(frozen=True, slots=True)
class Source:
    """What loads an encoder: its hub id or folder, and the commit of a hub id. Empty where it is not known."""

    model: str = ""
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The examples of one vector space, and the documents that stand with them.

    Attributes:
        space: The examples' vector space.
        examples: Their collection.
        state: The documents' collection.
        source: What loads the encoder.
        schema: Version of the layout.
    """

    space: VectorSpace
    examples: str
    state: str
    source: Source = field(default_factory=Source)
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Places:
    """What is active, and what is beside it.

    Attributes:
        active: What is served.
        feedback: The corrections' collection, which is there once the service has run.
        former: What was served before, and can be again.
        building: What is to be served.
        switching_until_us: Until when nothing may be written, since another place comes to be served; 0 for not at
            all. By then whoever switches has done so, or has died.
        switched_from: Key of the vector space that the present one has replaced; empty for none.
    """

    active: Place
    feedback: str = FEEDBACK_COLLECTION
    former: Place | None = None
    building: Place | None = None
    switching_until_us: int = 0
    switched_from: str = ""

    @property
    def space(self) -> VectorSpace:
        """The active examples' vector space."""
        return self.active.space

    @property
    def examples(self) -> str:
        """The active examples' collection."""
        return self.active.examples

    @property
    def state(self) -> str:
        """The active documents' collection."""
        return self.active.state

    @property
    def collections(self) -> set[str]:
        """All collections that are named here."""
        places = [place for place in (self.active, self.former, self.building) if place is not None]
        return {self.feedback, *(name for place in places for name in (place.examples, place.state))}


async def read_places(engine: Engine) -> tuple[Places, Revision] | None:
    """What is active, to be changed; None when nothing is stored yet.

    Raises:
        StoreTooNew: A later version has laid it out.
    """
    if STATE_COLLECTION not in await engine.collections():
        return None
    return await reread_places(engine)


async def reread_places(engine: Engine) -> tuple[Places, Revision] | None:
    """The same, of a store that is known to be there."""
    read = await QdrantStore(engine, "").read_document(*SPACE_DOCUMENT)
    if read is None:
        return None
    body, revision = read
    with readable():
        places = Places(
            _place_of(body),
            body.get("feedback", FEEDBACK_COLLECTION),
            _place_of(body["former"]) if body.get("former") else None,
            _place_of(body["building"]) if body.get("building") else None,
            body.get("switching_until_us", 0),
            body.get("switched_from", ""),
        )
    if places.active.schema > SCHEMA_VERSION:
        raise StoreTooNew(
            f"the store is laid out by version {places.active.schema}, and this nearvote knows {SCHEMA_VERSION} at "
            "most: start a later nearvote, or restore a backup that this one has made"
        )
    return places, revision


async def stored_places(engine: Engine) -> Places | None:
    """What is active; None when nothing is stored yet.

    Raises:
        StoreTooNew: A later version has laid it out.
    """
    read = await read_places(engine)
    return read[0] if read else None


async def write_places(engine: Engine, places: Places) -> None:
    """Makes other places active, whatever is. One write: the old ones or the new ones."""
    await QdrantStore(engine, "").put_document(*SPACE_DOCUMENT, _body_of(places))


async def replace_places(engine: Engine, places: Places, revision: Revision) -> bool:
    """Does so while those that were read are stored, in one step, whoever else writes. Returns whether it did."""
    return await QdrantStore(engine, "").put_document_if(*SPACE_DOCUMENT, _body_of(places), revision)


def current_schema() -> int:
    """The version of the layout that is made."""
    return SCHEMA_VERSION


def collection_of(space: VectorSpace) -> str:
    """The name of the collection of a vector space's examples."""
    layout = f"_layout{SCHEMA_VERSION}" if SCHEMA_VERSION > 1 else ""
    return f"{EXAMPLES_PREFIX}{space.key}{layout}"


def with_source(place: Place, source: Source) -> Place:
    """A place whose encoder is loaded by something else."""
    return replace(place, source=source)


def _place_of(body: Mapping[str, Any]) -> Place:
    space = VectorSpace(body["key"], body["dimension"], body["model"])
    return Place(
        space,
        body.get("examples", f"{EXAMPLES_PREFIX}{space.key}"),
        body.get("state", STATE_COLLECTION),
        Source(**body["source"]) if body.get("source") else Source(),
        body.get("schema", 1),
    )


def _body_of(places: Places) -> dict[str, Any]:
    def body(place: Place | None) -> dict[str, Any] | None:
        if place is None:
            return None
        own = {"examples": place.examples, "state": place.state, "schema": place.schema}
        return {**asdict(place.space), **own, "source": asdict(place.source)}

    return {
        **(body(places.active) or {}),
        "feedback": places.feedback,
        "former": body(places.former),
        "building": body(places.building),
        "switching_until_us": places.switching_until_us,
        "switched_from": places.switched_from,
    }
