"""Everything stored, to one file and back, whichever engine keeps it."""

import contextlib
import os
import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from nearvote.access.caller import Caller
from nearvote.audit.event import Action, Change
from nearvote.audit.log import AuditLog
from nearvote.clock import system_us
from nearvote.errors import CannotBackUp, InvalidBackup, StoreNotEmpty
from nearvote.examples.archive import END, HEADER, POINTS, Packer, points_from_json, points_to_json, read_parts
from nearvote.examples.audit_store import open_audit_store
from nearvote.examples.engine import Engine, Found
from nearvote.examples.places import Places, stored_places
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import (
    AUDIT_COLLECTION,
    activate_space,
    create_feedback_collection,
    create_space,
    drop_inactive,
    is_known,
    is_space_document,
    new_feedback_name,
    new_state_name,
    vector_names,
)
from nearvote.examples.store import VectorSpace
from nearvote.tasks.leases import LEASES_KIND
from nearvote.version import VERSION

FORMAT = 1

_RESTORE = Caller(name="(restore)")
_MAX_TENANTS = 10_000

# Points in a part. A document may be a fit, of megabytes, and a correction's text as long as `max_text_bytes`.
_PAGE = {"examples": 64, "state": 4, "feedback": 64, "audit": 256}

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup holds.

    Attributes:
        space: The vector space of its examples.
        created_us: When it was made, in microseconds since 1970-01-01 UTC.
        point_count: How many windows of examples it has.
        document_count: How many documents: tasks, fits, versions and the like.
        feedback_count: How many corrections.
        event_count: How many changes are on record.
    """

    space: VectorSpace
    created_us: int
    point_count: int
    document_count: int
    feedback_count: int
    event_count: int


async def back_up(engine: Engine, progress: Progress = lambda _done, _total: None) -> AsyncIterator[bytes]:
    """Everything that is active in a store, as the bytes of a backup, page by page.

    With it goes the record of changes; explanations of answers, which are kept for hours, stay behind.

    Documents are read before and after the examples, and must be the same: a write of examples changes one of them.

    Args:
        engine: The store.
        progress: Told how many points are done, and how many there are.

    Raises:
        CannotBackUp: There is nothing to back up, something was written meanwhile, or the store has collections that
            this version knows nothing of.
        StoreUnavailable: The store did not answer.
    """
    places = await stored_places(engine)
    if places is None:
        raise CannotBackUp("nothing is stored here: name the store with --data-dir or --qdrant-url")
    there = await engine.collections()
    foreign = sorted(name for name in there if name.startswith("nearvote_") and not is_known(name))
    if foreign:
        raise CannotBackUp(f"this version knows nothing of {', '.join(foreign)}, and would leave it out")
    total = await engine.count(places.examples, {})
    packer = Packer()
    counts: Counter[str] = Counter()
    yield packer.pack(
        HEADER,
        {
            "format": FORMAT,
            "version": VERSION,
            "created_us": system_us(),
            "space": asdict(places.space),
        },
    )
    before = await _documents_key(engine, places)
    collections = {
        "state": places.state,
        "examples": places.examples,
        "feedback": places.feedback,
        "audit": AUDIT_COLLECTION,
    }
    for name, collection in collections.items():
        if collection not in there:
            continue
        async for page in _pages(engine, collection, name, places.space):
            counts[name] += len(page)
            yield packer.pack(POINTS, {"collection": name, "points": points_to_json(page)})
            progress(counts["examples"], total)
    if await _documents_key(engine, places) != before:
        raise CannotBackUp("something was written meanwhile: try again, or stop what writes")
    yield packer.pack(END, {"counts": dict(counts)})


def verify(file: IO[bytes]) -> Contents:
    """Reads a backup from its first byte to its last.

    Raises:
        InvalidBackup: It is damaged, cut short, no backup, or one of another format.
    """
    counts: Counter[str] = Counter()
    space = None
    created_us = 0
    try:
        for kind, body in read_parts(file):
            if kind == HEADER:
                if body["format"] != FORMAT:
                    raise InvalidBackup(f"the backup has format {body['format']}, and this version reads {FORMAT}")
                space = VectorSpace(**body["space"])
                created_us = body["created_us"]
            elif kind == POINTS:
                counts[body["collection"]] += len(points_from_json(body["points"]))
            elif body["counts"] != dict(counts) or not counts.keys() <= _PAGE.keys():
                raise InvalidBackup("the backup does not have the points that it names")
    except (KeyError, TypeError, ValueError):
        raise InvalidBackup("the backup's parts are whole, and not what this version writes") from None
    if space is None:  # the reader asks for a header first
        raise InvalidBackup("the backup has no header")
    return Contents(space, created_us, counts["examples"], counts["state"], counts["feedback"], counts["audit"])


async def write_backup(output: Path, parts: AsyncIterator[bytes]) -> Contents:
    """Writes a backup to a file, for its owner alone. It appears whole and read back, or not at all.

    Raises:
        OSError: The file can't be written.
    """
    with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False) as draft:
        try:
            async for part in parts:
                draft.write(part)
            draft.flush()
            os.fsync(draft.fileno())
            draft.seek(0)
            contents = verify(draft)
            os.replace(draft.name, output)  # noqa: PTH105 - one call, no waiting
        except BaseException:
            os.unlink(draft.name)  # noqa: PTH108
            raise
    folder = os.open(output.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name too
    finally:
        os.close(folder)
    return contents


async def restore(
    engine: Engine, file: IO[bytes], *, replace: bool = False, progress: Progress = lambda _done, _total: None
) -> Contents:
    """Puts a backup in the place of what is stored. Its record of changes is added to that of the store.

    The restore itself is recorded too, for each tenant who has something before or after it. It is verified whole
    before anything is written, then written beside what is active, and made active by one write. Cut short at any
    moment, the store has either all of the old or all of the new; the next restore clears away what was left. No
    service may be running on the store.

    Args:
        engine: The store.
        file: The backup; it is read twice.
        replace: Whether a store that has examples or documents may lose them.
        progress: Told how many points are done, and how many there are.

    Returns:
        What was restored.

    Raises:
        InvalidBackup: It can't be restored; nothing was written.
        StoreNotEmpty: Something is stored, and `replace` is not set.
        StoreUnavailable: The store did not answer.
    """
    contents = verify(file)
    if not replace and not await _is_empty(engine):
        raise StoreNotEmpty("something is stored here: name an empty store, or replace it all with --replace")
    former = await stored_places(engine)
    await drop_inactive(engine)  # what an earlier run left
    mark = secrets.token_hex(4)
    store = await create_space(engine, contents.space, state=new_state_name(mark), suffix=f"_{mark}")
    feedback = await create_feedback_collection(engine, new_feedback_name(mark))
    audit = AuditLog(await open_audit_store(engine))
    collections = {**store.collections, "feedback": feedback, "audit": AUDIT_COLLECTION}
    total = contents.point_count + contents.document_count + contents.feedback_count + contents.event_count
    file.seek(0)
    done = 0
    for kind, body in read_parts(file):
        if kind == POINTS:
            await engine.upsert(collections[body["collection"]], points_from_json(body["points"]))
            done += len(body["points"])
            progress(done, total)
    async with contextlib.AsyncExitStack() as recorded:
        for tenant, count in (await _example_counts(engine, store, former)).items():
            change = Change(Action.STORE_RESTORED, "", example_count=count)
            await recorded.enter_async_context(audit.recording(tenant, _RESTORE, [change]))
        await activate_space(engine, store, contents.space, feedback)
    await drop_inactive(engine)
    return contents


async def _example_counts(engine: Engine, store: QdrantStore, former: Places | None) -> dict[str, int]:
    """How many examples each tenant has in a store; 0 for those who had something in the former one alone."""
    there = await engine.collections()
    collections = [*store.collections.values(), *((former.state, former.examples) if former else ())]
    tenants: set[str] = set()
    for collection in there.intersection(collections):
        tenants |= (await engine.facet(collection, "tenant", {}, _MAX_TENANTS)).keys()
    counts = await store.counts_by_tenant()
    return {tenant: counts.get(tenant, 0) for tenant in sorted(tenants - {""})}


async def _is_empty(engine: Engine) -> bool:
    places = await stored_places(engine)
    if places is None:
        return True
    there = await engine.collections()
    for collection in (places.examples, places.feedback):
        if collection in there and await engine.count(collection, {}):
            return False
    async for page in _pages(engine, places.state, "state", places.space):
        if page:
            return False
    return True


def _is_kept(document: Found) -> bool:
    """Whether a document says what is stored, not where, nor who is at work on it."""
    return not is_space_document(document) and document.payload.get("kind") != LEASES_KIND


async def _pages(engine: Engine, collection: str, name: str, space: VectorSpace) -> AsyncIterator[list[Found]]:
    from_id = None
    while True:
        page, from_id = await engine.scroll(collection, {}, _PAGE[name], from_id, vector_names(name, space))
        page = [point for point in page if name != "state" or _is_kept(point)]
        if page:
            yield page
        if from_id is None:
            return


async def _documents_key(engine: Engine, places: Places) -> int:
    """Equal for documents that are equal."""
    key = 0
    async for page in _pages(engine, places.state, "state", places.space):
        key = hash((key, *(repr((point.id, point.payload)) for point in page)))
    return key
