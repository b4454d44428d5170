"""The six stories: what is valid in one place, and the work that goes there.

Each story takes a session with workers 0 and 1 on node a and 2 and 3 on node b, and a
folder for its files. The functions that stories spawn stand before them: they are what
a user would write, and return a witness of the process they ran in beside their value.
"""

from __future__ import annotations

import math
import random
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import scopekit as sk
from scopekit.demo.telling import PATIENCE, StoryResult, Teller, Witnessed, witnessed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = (
    "NODES",
    "STORIES",
    "camera",
    "connection",
    "mapped_array",
    "mismatch",
    "model",
    "records",
    "run_stories",
)

NODES = {"a": 2, "b": 2}
"""The pretend nodes, with the number of engines on each."""

_NODE_A = (0, 1)
_ENGINES = (0, 1, 2, 3)


class Story(Protocol):
    """A function that tells a story."""

    __name__: str

    def __call__(self, session: sk.Session, folder: Path, /) -> StoryResult:
        """Tells it."""


# -- 1. a camera handle ------------------------------------------------------------------

_CAMERA_WORKER = 2
_FRAMES = 4
_BRIGHTNESS_STEP = 10


def write_video(path: Path, frames: int = 24) -> Path:
    """Writes a video that gets brighter, with a ball that crosses it."""
    import cv2  # noqa: PLC0415  # loads OpenCV
    import numpy as np  # noqa: PLC0415

    size = (160, 120)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size)
    for index in range(frames):
        image = np.full((size[1], size[0], 3), 10 + _BRIGHTNESS_STEP * index, np.uint8)
        cv2.circle(image, (10 + 6 * index, 60), 12, (0, 200, 255), -1)
        writer.write(image)
    writer.release()
    return path


def open_camera(source: str | int) -> sk.Chunk:
    """Opens a camera and says that it is valid in this process."""
    import cv2  # noqa: PLC0415  # loads OpenCV

    handle = cv2.VideoCapture(source)
    if not handle.isOpened():
        raise OSError(f"OpenCV cannot open camera {source!r}")
    return sk.tochunk(handle, scope=sk.scope(worker=sk.myid()))


def read_frame(camera: Any) -> Witnessed:
    """Reads the next frame."""
    good, frame = camera.read()
    if not good:
        raise OSError("the camera gave no frame")
    return witnessed(frame)


def brightness(frame: Witnessed) -> Witnessed:
    """Returns the mean brightness of a frame."""
    return witnessed(float(frame.value.mean()))


def _brightness_here(source: str, count: int) -> list[float]:
    """Returns the brightness of a video's first frames, read in this process."""
    import cv2  # noqa: PLC0415  # loads OpenCV

    video = cv2.VideoCapture(source)
    means = [float(video.read()[1].mean()) for _ in range(count)]
    video.release()
    return means


def _rounded(means: list[float]) -> list[float]:
    return [round(mean, 1) for mean in means]


def camera(session: sk.Session, folder: Path, device: int | None = None) -> StoryResult:
    """Tells of a camera handle that stays in its process.

    Args:
        session: where it happens.
        folder: where the video is written.
        device: the number of a real camera; by default a video serves as one.
    """
    teller = Teller(session)
    source = str(write_video(folder / "pretend-camera.avi")) if device is None else device
    opening = session.options(name="open camera", scope=sk.ProcessScope(_CAMERA_WORKER))
    opened = opening.spawn(open_camera, source)
    teller.made("open the camera", opened, _CAMERA_WORKER)
    reads: list[sk.Task] = []
    # One after another: OpenCV breaks when two threads read from one handle at once.
    for index in range(1, _FRAMES + 1):
        reads.append(session.options(name=f"read frame {index}").spawn(read_frame, opened))
        teller.ran(f"read frame {index}", reads[-1], _CAMERA_WORKER)
    # A frame is only numbers: it may leave, to wherever there is room, or by wish.
    wishes = [None, sk.NodeScope("a")]
    measures = [
        session.options(name=f"measure {index}", scope=wishes[index % 2]).spawn(brightness, read)
        for index, read in enumerate(reads, 1)
    ]
    means = [
        teller.ran(f"measure frame {index}", task, *(_NODE_A if index % 2 else _ENGINES))
        for index, task in enumerate(measures, 1)
    ]
    if device is None:
        here = _brightness_here(str(source), _FRAMES)
        teller.check("the reads gave the video's first frames", _rounded(here), _rounded(means))
    return teller.result(
        "camera",
        "A camera handle stays in its process",
        "The handle is a pointer that means nothing elsewhere, so its scope is the process that"
        " opened it. Tasks that read from it go there; frames are free to leave.",
    )


# -- 2. a scoped callable ---------------------------------------------------------------

_MODEL_WORKER = 1


class Model:
    """A small network with weights from a file.

    Attributes:
        calls: how often this very object was called.
    """

    def __init__(self, path: str) -> None:
        import numpy as np  # noqa: PLC0415

        with np.load(path) as weights:
            self._first, self._second = weights["first"], weights["second"]
        self.calls = 0

    def __call__(self, x: NDArray[np.float64]) -> Witnessed:
        """Returns the network's output, with the number of this call."""
        import numpy as np  # noqa: PLC0415

        self.calls += 1
        return witnessed((np.maximum(x @ self._first, 0.0) @ self._second, self.calls))


def write_weights(path: Path) -> Path:
    """Writes the weights of a small network."""
    import numpy as np  # noqa: PLC0415

    rng = np.random.default_rng(7)
    np.savez(path, first=rng.normal(size=(8, 64)), second=rng.normal(size=(64, 3)))
    return path


def load_model(path: str) -> sk.Chunk:
    """Loads a model and keeps it in this process."""
    return sk.tochunk(Model(path), scope=sk.scope(worker=sk.myid()))


def model(session: sk.Session, folder: Path) -> StoryResult:
    """Tells of a model that is kept in one process and called there."""
    import numpy as np  # noqa: PLC0415

    teller = Teller(session)
    path = str(write_weights(folder / "weights.npz"))
    loading = session.options(name="load model", scope=sk.ProcessScope(_MODEL_WORKER))
    loaded = loading.spawn(load_model, path)
    teller.made("load the model", loaded, _MODEL_WORKER)
    inputs = [np.random.default_rng(seed).normal(size=(5, 8)) for seed in range(3)]
    outputs: list[NDArray[np.float64]] = []
    calls: list[int] = []
    # The model itself is the function of the task.
    predictions = [
        session.options(name=f"predict {index}").spawn(loaded, x)
        for index, x in enumerate(inputs, 1)
    ]
    for index, prediction in enumerate(predictions, 1):
        output, count = teller.ran(f"call the model on batch {index}", prediction, _MODEL_WORKER)
        outputs.append(output)
        calls.append(count)
    teller.check("one object was called each time", [1, 2, 3], sorted(calls))
    here = Model(path)
    same = all(np.allclose(here(x).value[0], y) for x, y in zip(inputs, outputs, strict=True))
    teller.check("the outputs equal those of the same weights here", True, same)
    return teller.result(
        "model",
        "A function with a scope is called where it lives",
        "The model is loaded once and kept as a chunk. It serves as the function of tasks, and"
        " each call goes to the process that holds it.",
    )


# -- 3. a memory-mapped array -----------------------------------------------------------

_LENGTH = 200_000


def write_array(path: str, length: int) -> sk.Chunk:
    """Writes an array to a file and says that its path is valid on this node."""
    import numpy as np  # noqa: PLC0415

    array = np.memmap(path, dtype=np.int64, mode="w+", shape=(length,))
    array[:] = np.arange(length)
    array.flush()
    return sk.tochunk(path, scope=sk.NodeScope())


def sum_part(path: str, begin: int, end: int) -> Witnessed:
    """Sums a part of the array, of which no other part is read."""
    import numpy as np  # noqa: PLC0415

    array = np.memmap(path, dtype=np.int64, mode="r")
    return witnessed(int(array[begin:end].sum()))


def mapped_array(session: sk.Session, folder: Path) -> StoryResult:
    """Tells of a file that the engines of one node map into memory."""
    teller = Teller(session)
    path = str(folder / "numbers.bin")
    writing = session.options(name="write array", scope=sk.ProcessScope(0))
    written = writing.spawn(write_array, path, _LENGTH)
    chunk = teller.made("write the array", written, 0)
    half = _LENGTH // 2
    halves = [(0, half), (half, _LENGTH)]
    sums = [
        session.options(name=f"sum half {index}").spawn(sum_part, written, *bounds)
        for index, bounds in enumerate(halves, 1)
    ]
    neighbour = session.options(name="sum all", scope=sk.ProcessScope(1))
    whole = neighbour.spawn(sum_part, written, 0, _LENGTH)
    parts = [teller.ran(f"sum half {index}", task, *_NODE_A) for index, task in enumerate(sums, 1)]
    total = teller.ran("sum the whole on the neighbour", whole, 1)
    teller.check("both halves make the whole", total, sum(parts))
    teller.check("the sum is right", _LENGTH * (_LENGTH - 1) // 2, total)
    elsewhere = session.options(name="sum elsewhere", scope=sk.NodeScope("b"))
    teller.refused(
        "sum it on node b",
        sk.ScopeConflictError,
        lambda: elsewhere.spawn(sum_part, chunk, 0, _LENGTH),
    )
    return teller.result(
        "mapped array",
        "A memory-mapped file is used on its node",
        "The path means something on the machine that has the file, so its scope is that node."
        " The engines there share the pages; those of the other node are left out.",
    )


# -- 4. a database connection -----------------------------------------------------------

_DATABASE_WORKER = 3


def open_database(path: str) -> sk.Chunk:
    """Opens a database and says that it is valid on this very thread."""
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE reading (sensor TEXT, value REAL)")
    return sk.tochunk(database, scope=sk.ExactScope(sk.task_processor()))


def insert(database: sqlite3.Connection, rows: list[tuple[str, float]]) -> Witnessed:
    """Adds rows."""
    with database:
        database.executemany("INSERT INTO reading VALUES (?, ?)", rows)
    return witnessed(len(rows))


def mean_by_sensor(database: sqlite3.Connection, inserted: list[Witnessed]) -> Witnessed:
    """Queries the mean of each sensor once the rows are in."""
    assert inserted
    query = "SELECT sensor, avg(value) FROM reading GROUP BY sensor ORDER BY sensor"
    return witnessed(dict(database.execute(query).fetchall()))


def connection(session: sk.Session, folder: Path) -> StoryResult:
    """Tells of a database connection that refuses every thread but its own."""
    teller = Teller(session)
    opening = session.options(name="open database", scope=sk.scope(worker=_DATABASE_WORKER))
    opened = opening.spawn(open_database, str(folder / "readings.sqlite"))
    home = teller.made("open the database", opened, _DATABASE_WORKER).processor
    batches = [[("cold", 4.0), ("hot", 90.0)], [("cold", 6.0)], [("hot", 80.0)]]
    inserts = [
        session.options(name=f"insert {index}").spawn(insert, opened, rows)
        for index, rows in enumerate(batches, 1)
    ]
    query = session.options(name="query").spawn(mean_by_sensor, opened, inserts)
    seen = [
        teller.threaded(f"insert batch {index}", task, home)
        for index, task in enumerate(inserts, 1)
    ]
    answer = teller.threaded("query the means", query, home)
    threads = {(one.pid, one.thread) for one in [*seen, answer]}
    teller.check("threads that touched the connection", 1, len(threads))
    means = {
        sensor: math.fsum(values) / len(values)
        for sensor in ("cold", "hot")
        if (values := [value for rows in batches for name, value in rows if name == sensor])
    }
    teller.check("the means", means, answer.value)
    return teller.result(
        "connection",
        "A database connection stays on its thread",
        "SQLite refuses a connection on any thread but the one that opened it. An exact scope"
        " names that processor, and every task with the connection runs there.",
    )


# -- 5. records that stay in the company --------------------------------------------------

_COMPANY = (2, 3)


def collect_records(scope: sk.Scope, count: int) -> sk.Chunk:
    """Makes records that may not leave the company's engines."""
    rng = random.Random(11)  # noqa: S311  # a story needs the same numbers each time
    salaries = [("person", index, rng.randrange(2_000, 9_000)) for index in range(count)]
    return sk.tochunk(salaries, scope=scope)


def summarise(records: list[tuple[str, int, int]]) -> Witnessed:
    """Returns what may be known outside: how many there are, and their mean."""
    amounts = [amount for _, _, amount in records]
    return witnessed((len(amounts), round(sum(amounts) / len(amounts))))


def records(session: sk.Session, folder: Path) -> StoryResult:
    """Tells of records that stay in the company while their summary comes out."""
    del folder
    teller = Teller(session)
    company = sk.UnionScope(sk.ProcessScope(2), sk.ProcessScope(3))
    teller.say(f"the company's engines: {company.describe()}")
    collecting = session.options(name="collect records", scope=sk.ProcessScope(2))
    collected = collecting.spawn(collect_records, company, 500)
    chunk = teller.made("collect the records", collected, 2)
    summary = session.options(name="summarise").spawn(summarise, collected)
    other = session.options(name="summarise on 3", scope=sk.ProcessScope(3))
    again = other.spawn(summarise, collected)
    first = teller.ran("summarise the records", summary, *_COMPANY)
    second = teller.ran("summarise on the other company engine", again, 3)
    teller.say(f"the summary, which may be known here: {first[0]} records, mean {first[1]}")
    teller.check("both engines saw the same records", first, second)
    teller.refused(
        "fetch the raw records",
        sk.ScopeViolationError,
        lambda: chunk.fetch(timeout=PATIENCE),
    )
    return teller.result(
        "records",
        "Records stay in the company, their summary comes out",
        "The scope is a union: the company's engines and nobody else. They pass the records to"
        " each other; the notebook gets what tasks return, and is refused the records.",
    )


# -- 6. scopes that do not match ------------------------------------------------------------


def generate(seed: int) -> sk.Chunk:
    """Makes numbers that are valid in this process only."""
    import numpy as np  # noqa: PLC0415

    values = np.random.default_rng(seed).random(64)
    return sk.tochunk(values, scope=sk.scope(worker=sk.myid()))


def multiply(left: NDArray[np.float64], right: NDArray[np.float64]) -> Witnessed:
    """Multiplies two arrays."""
    return witnessed(float(left @ right))


def mismatch(session: sk.Session, folder: Path) -> StoryResult:
    """Tells of two values that no processor may hold together."""
    del folder
    teller = Teller(session)
    left, right = (
        teller.made(
            f"generate numbers on worker {worker}",
            session.options(name=f"generate on {worker}", scope=sk.ProcessScope(worker)).spawn(
                generate, worker
            ),
            worker,
        )
        for worker in (2, 3)
    )
    text = teller.refused(
        "multiply the two",
        sk.ScopeConflictError,
        lambda: session.options(name="multiply").spawn(multiply, left, right),
    )
    for argument in ("left", "right"):
        teller.check(f"the refusal names argument {argument}", True, f"'{argument}'" in text)
    return teller.result(
        "mismatch",
        "Scopes that never meet are refused, with the reason",
        "One array is valid in one process, the other in another. No processor may hold both,"
        " so the task is refused where it is written, before anything runs.",
    )


# -- all of them -----------------------------------------------------------------------------

STORIES: tuple[Story, ...] = (camera, model, mapped_array, connection, records, mismatch)
"""The stories in the order in which they are told."""


def run_stories(
    session: sk.Session, folder: Path, *, device: int | None = None
) -> Iterator[StoryResult]:
    """Tells the stories one after another; one that breaks off is told as such.

    Args:
        session: four engines over two nodes, as ``NODES`` has them.
        folder: where their files go.
        device: the number of a real camera for the first story.
    """
    for story in STORIES:
        extra = (device,) if story is camera else ()
        yield _told(session, story.__name__, partial(story, session, folder, *extra))


def _told(session: sk.Session, name: str, tell: Callable[[], StoryResult]) -> StoryResult:
    try:
        return tell()
    except Exception as error:  # noqa: BLE001  # the other stories are told all the same
        teller = Teller(session)
        teller.broke(error)
        return teller.result(name, f"The story of the {name.replace('_', ' ')} broke off", "")
