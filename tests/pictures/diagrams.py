"""The layers, the three paths that bytes take, how samples are dealt out, and when a blob changes."""

from __future__ import annotations

from collections.abc import Callable

from azstoragetorch._values.shards import Shard
from tests.pictures.lanes import LANES, MIDDLES, cells, cross, heads, labelled, note
from tests.pictures.svg import Drawing

__all__ = ["DIAGRAMS"]

YOURS, LOOP, SERVICE = range(3)
INNER = tuple((left + 8, right - 8) for left, right in LANES)


def layers() -> Drawing:
    """Draw the packages: each may import what is below it, and the values beside it."""
    picture = Drawing("Layers: imports point down, and to the values on the right")
    left, right, whole = (1.0, 222.0), (232.0, 424.0), (1.0, 424.0)
    labelled(picture, left, 1, "io · datasets · listing", ["synchronous faces, thin"])
    labelled(picture, right, 1, "aio · async for", ["on the caller's own loop"])
    picture.line((111, 45), (111, 73), arrow=True)
    y = labelled(picture, left, 73, "_bridge/", ["the event-loop thread: the only", "place that starts threads"])
    picture.line((111, y), (111, 162), arrow=True)
    picture.line((328, 45), (328, 162), arrow=True)
    transfer = ["readahead, reader, block writer, prefetch, listing, memory", "asyncio only; knows no service"]
    y = labelled(picture, whole, 162, "_transfer/", transfer)
    picture.line((62, y), (62, 281), arrow=True)
    picture.line((1, 252), (424, 252), role="floor", dashed=True)
    picture.text(424, 245, "the seam: RemoteBlob, RemoteContainer", "small", role="floor", anchor="end")
    azure = [
        "session, ranged GET, transport, retry, pace, credentials",
        "the only place that imports azure and aiohttp",
    ]
    y = labelled(picture, whole, 281, "_azure/", azure)
    picture.line((212, y), (212, 370), role="ours", arrow=True)
    labelled(picture, whole, 370, "Azure Blob Storage", role="warm", edge="floor")
    picture.box(448, 1, 151, 341, "panel", edge="edge")
    middle = 523.5
    picture.text(middle, 25, "_values/", "code", anchor="middle")
    note(picture, middle, 25, ["URLs, ranges,", "options, buffers,", "tables of blobs,", "shards, counters"])
    note(picture, middle, 113, ["neither I/O", "nor asyncio"])
    picture.line((460, 226), (588, 226), role="edge")
    picture.text(middle, 254, "exceptions.py", "code", anchor="middle")
    note(picture, middle, 254, ["the error classes"])
    picture.height = 399
    return picture


def read() -> Drawing:
    """Draw how torch.load gets its bytes."""
    picture = Drawing("How a checkpoint is read: what torch.load asks for, and the way of one range")
    picture.text(0, 16, "What torch.load asks for, in this order", "bold")
    window = ["pale"] * 8 + ["panel"] * 16
    cells(picture, 0, 30, 46, ["warm"], 30)
    cells(picture, 50, 30, 500, window, 30)
    cells(picture, 554, 30, 46, ["warm"], 30)
    for x, label in ((23, "1"), (577, "2"), (133, "3"), (383, "4")):
        picture.text(x, 50, label, "bold", anchor="middle")
    picture.text(0, 78, "512 KiB", "small", role="soft")
    picture.text(600, 78, "512 KiB: the directory", "small", role="soft", anchor="end")
    picture.text(133, 78, "64 MiB at once", "small", role="soft", anchor="middle")
    picture.text(350, 78, "then 128 MiB ahead", "small", role="soft", anchor="middle")

    top = 100.0
    heads(picture, top, 420, ["the caller's thread", "event-loop thread", "Blob service"])
    yours, loop, service = (MIDDLES[lane] for lane in (YOURS, LOOP, SERVICE))
    labelled(picture, INNER[YOURS], 134, "readinto(view)", ["what is here already", "is copied in this thread"])
    cross(picture, YOURS, LOOP, 158)
    labelled(picture, INNER[LOOP], 134, "Readahead", ["a window that grows", "with the run"])
    picture.line((loop, 195), (loop, 221), arrow=True)
    labelled(picture, INNER[LOOP], 221, "Reader", ["ranges of 8 MiB,", "32 at a time"])
    for y in (230, 240, 250, 260, 270):
        cross(picture, LOOP, SERVICE, y)
    labelled(
        picture,
        INNER[SERVICE],
        221,
        "GET, If-Match",
        ["one version: the ETag", "of the first answer"],
        role="warm",
        edge="floor",
    )
    picture.line((service, 282), (service, 327), arrow=True, role="floor")
    labelled(picture, INNER[SERVICE], 327, "206", ["a range of bytes"], role="warm", edge="floor")
    cross(picture, SERVICE, LOOP, 350, role="floor")
    labelled(
        picture,
        INNER[LOOP],
        315,
        "RangedGet",
        ["status, range, length,", "ETag are verified; a cut", "body is continued"],
    )
    cross(picture, LOOP, YOURS, 350, role="ours")
    labelled(
        picture, INNER[YOURS], 315, "view", ["whole ranges lie here", "at once; the rest comes", "from the window"]
    )
    picture.text(yours, 240, "one hop to the loop", "small", role="soft", anchor="middle")
    picture.text(yours, 257, "takes 25 to 60 us", "small", role="soft", anchor="middle")
    picture.height = 422
    return picture


def write() -> Drawing:
    """Draw how torch.save puts its bytes, and when they are seen."""
    picture = Drawing("How a checkpoint is written: blocks that nobody sees, and one request that shows them all")
    heads(picture, 0, 452, ["the caller's thread", "event-loop thread", "Blob service"])
    yours, service = MIDDLES[YOURS], MIDDLES[SERVICE]
    blob = INNER[SERVICE]
    labelled(
        picture,
        INNER[YOURS],
        34,
        "write(view)",
        ["one copy into a block;", "the memory of the caller", "is free again"],
    )
    cells(picture, INNER[YOURS][0], 120, 168, ["ours", "ours", "ours", "pale"], 18)
    note(picture, yours, 138, ["blocks of 4 MiB; the last", "one is being filled"])
    cross(picture, YOURS, LOOP, 129)
    labelled(picture, INNER[LOOP], 100, "BlockWriter", ["at most 32 in flight,", "within the budget"])
    for y in (108, 119, 130, 141, 152):
        cross(picture, LOOP, SERVICE, y)
    labelled(picture, blob, 34, "the blob", ["previous content"], role="warm", edge="floor")
    labelled(picture, blob, 100, "Put Block", role="pale", edge="ours")
    cells(picture, blob[0], 131, 168, ["ours"] * 6, 18)
    note(picture, service, 149, ["uncommitted: no reader", "sees any of them"])

    picture.line((8, 206), (592, 206), role="edge", dashed=True)
    labelled(picture, INNER[YOURS], 222, "close()", ["a clean end"])
    cross(picture, YOURS, LOOP, 244)
    labelled(picture, INNER[LOOP], 222, "commit", ["when every block has", "been answered"])
    cross(picture, LOOP, SERVICE, 244, role="ours")
    labelled(picture, blob, 222, "Put Block List", ["all at once"])
    picture.line((service, 266), (service, 290), role="ours", arrow=True)
    labelled(picture, blob, 290, "the blob", ["new content"])

    picture.line((8, 352), (592, 352), role="edge", dashed=True)
    bottom = labelled(
        picture,
        INNER[YOURS],
        368,
        "abort()",
        ["or an exception, Ctrl-C,", "a fork, a forgotten file"],
        role="warm",
        edge="floor",
    )
    cross(picture, YOURS, LOOP, 398, role="floor")
    labelled(
        picture,
        INNER[LOOP],
        368,
        "abandon",
        ["requests are cancelled,", "memory is given back"],
        role="warm",
        edge="floor",
    )
    labelled(picture, blob, 368, "the blob", ["previous content:", "nothing was committed"], role="warm", edge="floor")
    picture.height = bottom + 24
    return picture


def sample() -> Drawing:
    """Draw how a dataset gets its samples ahead of the loop that uses them."""
    picture = Drawing("How a sample is read: a window of requests ahead of the loop that uses the samples")
    heads(picture, 0, 470, ["thread that iterates", "event-loop thread", "Blob service"])
    yours, loop, service = (MIDDLES[lane] for lane in (YOURS, LOOP, SERVICE))
    y = labelled(picture, INNER[YOURS], 34, "BlobListing", ["names, sizes, ETags,", "shared by all workers"])
    picture.line((yours, y), (yours, y + 22), arrow=True)
    y = labelled(picture, INNER[YOURS], y + 22, "Order", ["a permutation made of", "seed, epoch and count"])
    picture.line((yours, y), (yours, y + 22), arrow=True)
    y = labelled(picture, INNER[YOURS], y + 22, "Shard", ["the positions of this", "worker of this rank"])
    cross(picture, YOURS, LOOP, y - 30)
    top = y - 61
    labelled(picture, INNER[LOOP], top, "Window", ["prefetch samples that", "nobody has taken yet"])
    roles = ["ours", "ours", "pale", "ours", "pale", "pale", "pale", "panel"]
    cells(picture, INNER[LOOP][0], top + 72, 168, roles)
    picture.text(loop, top + 108, "fetched or on the way;", "small", role="soft", anchor="middle")
    picture.text(loop, top + 125, "they end in any order", "small", role="soft", anchor="middle")
    for step in range(5):
        cross(picture, LOOP, SERVICE, top + 10 + 10 * step)
    labelled(
        picture,
        INNER[SERVICE],
        top,
        "GET, If-Match",
        ["one for each sample, of", "the listed version"],
        role="warm",
        edge="floor",
    )
    cross(picture, SERVICE, LOOP, top + 82, role="floor")
    picture.text(service, top + 87, "the bytes of a sample", "small", role="soft", anchor="middle")
    bottom = top + 146
    picture.line((loop, top + 131), (loop, bottom), arrow=True)
    labelled(picture, INNER[LOOP], bottom, "Stream", ["a queue, in the order", "of the positions"])
    cross(picture, LOOP, YOURS, bottom + 30, role="ours")
    y = labelled(
        picture, INNER[YOURS], bottom, "transform(blob)", ["in this thread; on_error", "says what a failure does"]
    )
    picture.line((yours, y), (yours, y + 22), role="ours", arrow=True)
    y = labelled(picture, INNER[YOURS], y + 22, "sample")
    note(picture, loop, bottom + 62, ["async for needs neither", "queue nor second thread"])
    picture.height = y + 12
    return picture


def commit() -> Drawing:
    """Draw what readers see of a blob while it is written."""
    picture = Drawing("What readers see of a blob while it is written: its previous content, until all is there")
    left, end = 122.0, 599.0
    for top, title, stop, blocks in ((0.0, "A save that ends well", 400, 8), (160.0, "A save that is cut off", 280, 3)):
        whole = blocks == 8
        picture.text(0, top + 16, title, "bold")
        for row, label in enumerate(("torch.save", "blocks, unseen", "readers see")):
            picture.text(0, top + 46 + 36 * row, label, "small", role="soft")
        picture.box(left, top + 30, stop - left, 26, "pale", edge="ours")
        picture.text((left + stop) / 2, top + 47, "writes", "small", anchor="middle")
        cells(picture, left + 24, top + 66, 36 * blocks, ["ours"] * blocks, 26)
        seen = 474 if whole else end
        picture.box(left, top + 102, seen - left, 26, "warm", edge="floor")
        picture.text((left + seen) / 2, top + 119, "previous content", "small", anchor="middle")
        if whole:
            picture.box(402, top + 30, 74, 26, "ours")
            picture.text(439, top + 47, "close", "small", role="paper", anchor="middle")
            picture.line((477, top + 24), (477, top + 136), role="ours", dashed=True)
            picture.box(480, top + 102, end - 480, 26, "pale", edge="ours")
            picture.text(540, top + 119, "new content", "small", anchor="middle")
            picture.text(484, top + 84, "commit", "small", role="ours")
        else:
            picture.line((stop + 4, top + 24), (stop + 4, top + 94), role="floor")
            picture.text(stop + 12, top + 47, "Ctrl-C, an error, a lost machine", "small", role="floor")
    picture.height = 290
    return picture


def deal() -> Drawing:
    """Draw which rank and worker reads what; the example of docs/distributed.md, dealt by the code that deals."""
    count, batch, places = 12, 2, range(2)
    shards = {
        (rank, worker): Shard(count, rank=rank, world=2, worker=worker, workers=2, block=batch)
        for rank in places
        for worker in places
    }
    roles = ("pale", "warm")
    rank_of = {position: rank for (rank, _), shard in shards.items() for position in shard}
    picture = Drawing("Who reads what: twelve blobs, two ranks with two workers each, batch_size=2")

    def cell(x: float, y: float, position: int) -> None:
        rank = rank_of[position]
        picture.box(x, y, 34, 26, roles[rank], edge=("ours", "floor")[rank])
        picture.text(x + 17, y + 18, f"{position:02}", "smallcode", anchor="middle")

    picture.text(0, 16, "One epoch, in its order", "bold")
    for position in range(count):
        cell(2 + position * 51, 28, position)
    for rank, left in zip(places, (0, 308), strict=True):
        picture.line((19 + 51 * (4 + 3 * rank), 58), (left + 146, 80), role=("ours", "floor")[rank], arrow=True)
        picture.box(left, 84, 292, 166, "panel", round_=6)
        picture.text(left + 12, 106, f"rank {rank}", "bold", role="soft")
        for worker in places:
            y = 118 + 66 * worker
            picture.text(left + 12, y + 18, f"worker {worker}", "small", role="soft")
            for index, position in enumerate(shards[rank, worker]):
                turn, within = divmod(index, batch)
                x = left + 90 + turn * 96 + within * 38
                cell(x, y, position)
                if not within:
                    number = turn * len(places) + worker
                    picture.text(x + 36, y + 43, f"batch {number}", "small", role="soft", anchor="middle")
    picture.height = 252
    return picture


DIAGRAMS: dict[str, Callable[[], Drawing]] = {
    "layers": layers,
    "read": read,
    "write": write,
    "sample": sample,
    "commit": commit,
    "deal": deal,
}
