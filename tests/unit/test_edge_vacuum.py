"""Writing an embedded store anew."""

from pathlib import Path

import pytest

from nearvote.examples.edge_engine import EdgeEngine, build_indexes, vacuum_collections
from nearvote.examples.engine import Point, Schema, Sparse, UpTo
from nearvote.startup_errors import StoreLocked

SCHEMA = Schema(dense={"meaning": 4}, sparse=("surface",), tenant="tenant", keywords=("who",), times=("ends",))
TEXT = "a canary in a coal mine"
IDS = [f"00000000-0000-0000-0000-{i:012}" for i in range(600)]


def points(count: int) -> list[Point]:
    """Points of two, of whom one is to be forgotten."""
    return [
        Point(
            id_,
            {
                "tenant": "t",
                "who": "gone" if i % 100 == 7 else "stays",
                "text": TEXT if i % 100 == 7 else "x",
                "ends": i,
            },
            {"meaning": [1.0, i, 0.0, 0.0], "surface": Sparse([i], [0.5])},
        )
        for i, id_ in enumerate(IDS[:count])
    ]


def files_with(folder: Path, text: str) -> list[str]:
    """Files that have a text in them."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in paths if text.encode() in path.read_bytes()]


async def filled(folder: Path) -> None:
    """A folder with two collections, of which one had a canary."""
    engine = EdgeEngine(folder)
    for name in ("a", "documents"):
        await engine.create_collection(name, SCHEMA if name == "a" else Schema({}, "tenant", ("kind",)))
    await engine.upsert("a", points(600))
    await engine.upsert("documents", [Point(IDS[0], {"tenant": "t", "kind": "k", "body": {"x": [1, None]}})])
    await engine.delete("a", {"who": "gone"})
    await engine.close()


async def check(folder: Path) -> None:
    """All that was not deleted is there, and can be searched for by all of its indexes."""
    engine = EdgeEngine(folder)
    assert await engine.count("a", {"tenant": "t"}) == 594
    assert await engine.count("a", {"ends": UpTo(9)}) == 9
    assert await engine.facet("a", "who", {}, 5) == {"stays": 594}
    found, _ = await engine.scroll("a", {}, 2, None, ("meaning", "surface"))
    assert found[1].payload == {"tenant": "t", "who": "stays", "text": "x", "ends": 1}
    assert found[1].vectors["surface"] == Sparse([1], [0.5])
    assert found[1].vectors["meaning"] == pytest.approx([0.5**0.5, 0.5**0.5, 0, 0])
    (document,) = await engine.retrieve("documents", IDS[:1], None)
    assert document.payload["body"] == {"x": [1, None]}
    await engine.upsert("a", points(1))
    await engine.close()


async def test_nothing_deleted_is_left(data_folder: Path) -> None:
    """What was deleted is in the files still, as the engine writes them; once they are written anew it is not."""
    await filled(data_folder)
    assert files_with(data_folder, TEXT), "else there is nothing to get rid of"
    assert build_indexes(data_folder) == 595
    assert files_with(data_folder, TEXT), "an index alone does not get rid of it"
    assert vacuum_collections(data_folder) == 595
    assert files_with(data_folder, TEXT) == []
    await check(data_folder)
    build_indexes(data_folder)
    await check(data_folder)


@pytest.mark.parametrize("moment", ["half-written", "whole", "old one aside", "in place"])
async def test_cut_short(data_folder: Path, moment: str) -> None:
    """Cut short at any moment, a store is there as it was or as it is to be."""
    await filled(data_folder)
    collections = data_folder / "collections"
    if moment == "half-written":
        (collections / "a.new").mkdir()
    else:
        old = collections / "old"
        (collections / "a").rename(old)
        await filled(data_folder / "other")
        (data_folder / "other" / "collections" / "a").rename(collections / "a.vacuumed")
        if moment == "whole":
            old.rename(collections / "a")
        elif moment == "old one aside":
            old.rename(collections / "a.dropped")
        else:
            (collections / "a.vacuumed").rename(collections / "a")
            old.rename(collections / "a.dropped")
    await check(data_folder)
    assert vacuum_collections(data_folder) == 595
    assert sorted(path.name for path in collections.iterdir() if path.is_dir()) == ["a", "documents"]


async def test_not_while_it_is_open(data_folder: Path) -> None:
    """A store that a service has open is not written anew."""
    await filled(data_folder)
    engine = EdgeEngine(data_folder)
    with pytest.raises(StoreLocked):
        vacuum_collections(data_folder)
    await engine.close()
