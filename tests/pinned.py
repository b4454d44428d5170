"""Real objects for each row of the table of pins, made where their libraries are installed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import ctypes
import dbm.dumb
import importlib
import logging
import mmap
import multiprocessing
import multiprocessing.pool
import queue
import random
import select
import shelve
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import weakref
from dataclasses import dataclass
from multiprocessing import shared_memory
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Case:
    """One kind of object.

    Attributes:
        row: its row in the table.
        name: what it is.
        make: makes one, given a folder and what takes what is to be closed.
        level: what it must not leave.
        strength: whether that is held, or told.
        library: what must be installed.
    """

    row: int
    name: str
    make: Callable[[Any, Any], Any]
    level: str = "process"
    strength: str = "hard"
    library: str = ""

    def __str__(self):
        return f"{self.row} {self.name}"

    def build(self, folder, stack):
        if self.library:
            needs(self.library)
        return self.make(folder, stack)


def needs(library):
    """Import a library; skip the test that needs it where it is not installed."""
    try:
        return importlib.import_module(library)
    except ImportError:
        pytest.skip(f"{library.partition('.')[0]} is not installed")


CASES: list[Case] = []


def case(row, name, level="process", strength="hard", library=""):
    def add(make):
        CASES.append(Case(row, name, make, level, strength, library))
        return make

    return add


def closing(stack, value, how="close"):
    stack.callback(getattr(value, how))
    return value


# -- files, what is temporary --------------------------------------------------------------


@case(1, "text file")
def text_file(folder, stack):
    return stack.enter_context((folder / "text").open("w"))


@case(2, "binary file")
def binary_file(folder, stack):
    return stack.enter_context((folder / "bytes").open("wb"))


@case(2, "file of both ways")
def random_file(folder, stack):
    return stack.enter_context((folder / "both").open("w+b"))


@case(2, "unbuffered file")
def raw_file(folder, stack):
    return stack.enter_context((folder / "raw").open("wb", buffering=0))


@case(2, "reader")
def reader(folder, stack):
    (folder / "read").write_bytes(b"x")
    return stack.enter_context((folder / "read").open("rb"))


@case(4, "temporary file")
def temporary_file(folder, stack):
    return stack.enter_context(tempfile.NamedTemporaryFile(dir=folder))


@case(5, "temporary directory")
def temporary_directory(folder, stack):
    return closing(stack, tempfile.TemporaryDirectory(dir=folder), "cleanup")


@case(6, "mmap")
def memory_map(folder, stack):
    return closing(stack, mmap.mmap(-1, 16))


@case(8, "shelf")
def shelf(folder, stack):
    return closing(stack, shelve.open(str(folder / "shelf")))


@case(8, "dbm")
def database_of_names(folder, stack):
    return closing(stack, dbm.dumb.open(str(folder / "names"), "c"))


# -- threads, locks, queues, loops -----------------------------------------------------------


for row, kind in [
    *((10, kind) for kind in (threading.Lock, threading.RLock)),
    *((11, kind) for kind in (threading.Condition, threading.Event, threading.Semaphore)),
    *((11, kind) for kind in (queue.Queue, queue.PriorityQueue, queue.SimpleQueue)),
    (13, threading.local),
    (18, concurrent.futures.Future),
    *((20, kind) for kind in (asyncio.Lock, asyncio.Event, asyncio.Queue)),
]:
    case(row, f"{kind.__module__}.{kind.__name__}")(lambda _folder, _stack, kind=kind: kind())


@case(12, "thread")
def thread(folder, stack):
    return threading.current_thread()


for name in ("Lock", "Semaphore", "Event", "Condition", "SimpleQueue"):
    case(14, f"multiprocessing.{name}")(lambda _folder, _stack, name=name: getattr(SPAWN, name)())


@case(14, "multiprocessing.Queue")
def process_queue(folder, stack):
    made = SPAWN.Queue()
    stack.callback(made.join_thread)
    stack.callback(made.close)
    return made


@case(14, "multiprocessing.Value")
def process_value(folder, stack):
    return SPAWN.Value("i", 3)


@case(15, "multiprocessing.Connection")
def process_connection(folder, stack):
    one, other = SPAWN.Pipe()
    closing(stack, other)
    return closing(stack, one)


@case(16, "manager's proxy")
def proxy(folder, stack):
    from multiprocessing.managers import BaseProxy

    # Made as the manager's server would, without the server.
    return BaseProxy.__new__(BaseProxy)


@case(17, "shared memory", "node")
def shared(folder, stack):
    made = shared_memory.SharedMemory(create=True, size=64)
    stack.callback(made.unlink)
    return closing(stack, made)


@case(17, "shareable list", "node")
def shareable(folder, stack):
    made = shared_memory.ShareableList([1, 2])
    stack.callback(made.shm.unlink)
    stack.callback(made.shm.close)
    return made


@case(18, "child process")
def child(folder, stack):
    made = subprocess.Popen([sys.executable, "-c", ""])
    stack.callback(made.wait)
    return made


@case(18, "executor")
def executor(folder, stack):
    return stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))


@case(18, "pool")
def pool(folder, stack):
    return stack.enter_context(multiprocessing.pool.ThreadPool(1))


@case(19, "event loop", "thread")
def event_loop(folder, stack):
    return closing(stack, asyncio.new_event_loop())


@case(19, "future of a loop", "thread")
def loop_future(folder, stack):
    return closing(stack, asyncio.new_event_loop()).create_future()


@case(21, "generator")
def generator(folder, stack):
    return (n for n in range(3))


@case(21, "coroutine")
def coroutine(folder, stack):
    async def work():
        pass

    return closing(stack, work())


@case(21, "async generator")
def async_generator(folder, stack):
    async def work():
        yield 1

    return work()


@case(22, "context variable")
def context_variable(folder, stack):
    return contextvars.ContextVar("variable")


@case(22, "context")
def context(folder, stack):
    return contextvars.copy_context()


class Referred:
    """What weak references can refer to."""


REFERRED = Referred()


for kind in (weakref.WeakValueDictionary, weakref.WeakKeyDictionary, weakref.WeakSet):
    case(23, kind.__name__)(lambda _folder, _stack, kind=kind: kind())


@case(23, "weak reference")
def weak_reference(folder, stack):
    return weakref.ref(REFERRED)


# -- addresses ---------------------------------------------------------------------------------


for name, make in {
    "pointer": lambda: ctypes.pointer(ctypes.c_int(3)),
    "void pointer": lambda: ctypes.c_void_p(3),
    "text pointer": lambda: ctypes.c_char_p(b"text"),
    "callback": lambda: ctypes.CFUNCTYPE(None)(len),
}.items():
    case(24, f"ctypes {name}")(lambda _folder, _stack, make=make: make())


@case(25, "loaded library")
def loaded_library(folder, stack):
    return ctypes.CDLL(None)


@case(25, "ctypes array")
def ctypes_array(folder, stack):
    return (ctypes.c_int * 3)(1, 2, 3)


@case(26, "capsule")
def capsule(folder, stack):
    return socket.CAPI


@case(29, "z3 expression", library="z3")
def z3_expression(folder, stack):
    return needs("z3").Int("x")


@case(30, "onnx session", library="onnxruntime")
def onnx_session(folder, stack):
    module = needs("onnxruntime")
    return module.InferenceSession.__new__(module.InferenceSession)


@case(31, "communicator", library="mpi4py.MPI")
def communicator(folder, stack):
    return needs("mpi4py.MPI").COMM_WORLD


@case(32, "gurobi environment", library="gurobipy")
def gurobi_environment(folder, stack):
    return closing(stack, needs("gurobipy").Env(empty=True), "dispose")


@case(34, "element of lxml", library="lxml.etree")
def lxml_element(folder, stack):
    return needs("lxml.etree").fromstring("<a/>")


@case(34, "xpath of lxml", library="lxml.etree")
def lxml_xpath(folder, stack):
    return needs("lxml.etree").XPath("a")


# -- databases, clients ----------------------------------------------------------------------------


@case(35, "sqlite connection", "thread")
def sqlite_connection(folder, stack):
    return closing(stack, sqlite3.connect(":memory:"))


@case(35, "sqlite cursor", "thread")
def sqlite_cursor(folder, stack):
    return sqlite_connection(folder, stack).cursor()


@case(36, "sqlite row")
def sqlite_row(folder, stack):
    connection = sqlite_connection(folder, stack)
    connection.row_factory = sqlite3.Row
    return connection.execute("SELECT 1 AS one").fetchone()


@case(37, "duckdb connection", library="duckdb")
def duckdb_connection(folder, stack):
    return closing(stack, needs("duckdb").connect())


@case(37, "duckdb relation", library="duckdb")
def duckdb_relation(folder, stack):
    return duckdb_connection(folder, stack).sql("SELECT 1")


@case(38, "sqlalchemy engine", library="sqlalchemy")
def sqlalchemy_engine(folder, stack):
    return closing(stack, needs("sqlalchemy").create_engine("sqlite://"), "dispose")


@case(38, "sqlalchemy session", library="sqlalchemy.orm")
def sqlalchemy_session(folder, stack):
    return closing(stack, needs("sqlalchemy.orm").Session(sqlalchemy_engine(folder, stack)))


@case(39, "psycopg2 connection", library="psycopg2.extensions")
def psycopg2_connection(folder, stack):
    kind = needs("psycopg2.extensions").connection
    return kind.__new__(kind)


@case(39, "psycopg connection", library="psycopg")
def psycopg_connection(folder, stack):
    kind = type("Unopened", (needs("psycopg").Connection,), {"__init__": lambda _: None})
    return type("Quiet", (kind,), {"__del__": lambda _: None})()


@case(40, "mongo client", library="pymongo")
def mongo_client(folder, stack):
    url = "mongodb://127.0.0.1:1"
    return closing(stack, needs("pymongo").MongoClient(url, connect=False))


@case(40, "mongo collection", library="pymongo")
def mongo_collection(folder, stack):
    return mongo_client(folder, stack).one.two


@case(41, "redis client", library="redis")
def redis_client(folder, stack):
    return closing(stack, needs("redis").Redis())


@case(41, "redis lock", library="redis")
def redis_lock(folder, stack):
    return redis_client(folder, stack).lock("name")


@case(42, "requests session", library="requests")
def requests_session(folder, stack):
    return closing(stack, needs("requests").Session())


@case(43, "httpx client", library="httpx")
def httpx_client(folder, stack):
    return closing(stack, needs("httpx").Client())


@case(43, "httpx async client", "thread", library="httpx")
def httpx_async_client(folder, stack):
    return needs("httpx").AsyncClient()


@case(43, "aiohttp session", "thread", library="aiohttp")
def aiohttp_session(folder, stack):
    loop = closing(stack, asyncio.new_event_loop())

    async def make():
        return needs("aiohttp").ClientSession()

    made = loop.run_until_complete(make())
    stack.callback(lambda: loop.run_until_complete(made.close()))
    return made


@case(43, "urllib3 pool", library="urllib3")
def urllib3_pool(folder, stack):
    return needs("urllib3").PoolManager()


def boto(make, folder, stack):
    return make("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


@case(44, "boto client", library="boto3")
def boto_client(folder, stack):
    return closing(stack, boto(needs("boto3").client, folder, stack))


@case(44, "boto resource", library="boto3")
def boto_resource(folder, stack):
    return boto(needs("boto3").resource, folder, stack)


@case(44, "boto session", library="boto3")
def boto_session(folder, stack):
    return needs("boto3").Session()


@case(45, "google client", library="google.cloud.storage")
def google_client(folder, stack):
    nobody = needs("google.auth.credentials").AnonymousCredentials()
    return closing(stack, needs("google.cloud.storage").Client("none", nobody))


@case(46, "grpc channel", library="grpc")
def grpc_channel(folder, stack):
    return closing(stack, needs("grpc").insecure_channel("localhost:1"))


@case(46, "grpc server", library="grpc")
def grpc_server(folder, stack):
    workers = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
    return needs("grpc").server(workers)


@case(47, "zmq context", library="zmq")
def zmq_context(folder, stack):
    return closing(stack, needs("zmq").Context(), "term")


@case(47, "zmq socket", "thread", library="zmq")
def zmq_socket(folder, stack):
    return closing(stack, zmq_context(folder, stack).socket(needs("zmq").PUB))


@case(48, "socket")
def plain_socket(folder, stack):
    return closing(stack, socket.socket())


@case(48, "ssl context")
def ssl_context(folder, stack):
    return ssl.create_default_context()


if hasattr(select, "epoll"):

    @case(48, "epoll")
    def epoll(folder, stack):
        return closing(stack, select.epoll())


@case(49, "spark session", library="pyspark.sql")
def spark_session(folder, stack):
    kind = needs("pyspark.sql").SparkSession
    return kind.__new__(kind)


@case(49, "spark context", library="pyspark")
def spark_context(folder, stack):
    return object.__new__(needs("pyspark").SparkContext)


@case(50, "browser", library="selenium.webdriver.remote.webdriver")
def browser(folder, stack):
    kind = needs("selenium.webdriver.remote.webdriver").WebDriver
    return kind.__new__(kind)


# -- scientific files, arrays -------------------------------------------------------------------


@case(51, "h5py file", library="h5py")
def h5py_file(folder, stack):
    return closing(stack, needs("h5py").File(folder / "h5py", "w"))


@case(51, "h5py data set", library="h5py")
def h5py_data_set(folder, stack):
    return h5py_file(folder, stack).create_dataset("x", data=[1])


@case(51, "h5py attributes", library="h5py")
def h5py_attributes(folder, stack):
    return h5py_file(folder, stack).attrs


@case(52, "netCDF4 data set", library="netCDF4")
def netcdf_data_set(folder, stack):
    return closing(stack, needs("netCDF4").Dataset(folder / "netcdf", "w"))


@case(52, "netCDF4 variable", library="netCDF4")
def netcdf_variable(folder, stack):
    made = netcdf_data_set(folder, stack)
    made.createDimension("x", 3)
    return made.createVariable("v", "f4", ("x",))


@case(53, "tables file", library="tables")
def tables_file(folder, stack):
    return closing(stack, needs("tables").open_file(str(folder / "tables"), "w"))


@case(53, "tables array", library="tables")
def tables_array(folder, stack):
    return tables_file(folder, stack).create_array("/", "x", [1])


@case(53, "pandas HDFStore", library="tables")
def hdf_store(folder, stack):
    return closing(stack, needs("pandas").HDFStore(str(folder / "store"), "w"))


@case(54, "rasterio data set", "thread", library="rasterio")
def raster(folder, stack):
    rasterio = needs("rasterio")
    transform = needs("rasterio.transform").from_origin(0, 0, 1, 1)
    shape = {"height": 2, "width": 2, "count": 1, "dtype": "uint8", "transform": transform}
    with rasterio.open(folder / "raster", "w", driver="GTiff", crs="EPSG:4326", **shape):
        pass
    return closing(stack, rasterio.open(folder / "raster"))


@case(55, "memmap", "node", library="numpy")
def mapped_array(folder, stack):
    return needs("numpy").memmap(folder / "mapped", "float64", "w+", shape=(4, 3))


@case(55, "view of a memmap", "node", library="numpy")
def mapped_view(folder, stack):
    return needs("numpy").asarray(mapped_array(folder, stack))[1:, ::2]


@case(56, "array in shared memory", "node", "soft", library="numpy")
def shared_array(folder, stack):
    memory = shared(folder, stack)
    made = needs("numpy").ndarray((4,), "float64", memory.buf)
    # The memory cannot be closed while the array shows it.
    stack.callback(lambda: None)
    return made


@case(57, "numpy generator", "free", "note", library="numpy.random")
def numpy_generator(folder, stack):
    return needs("numpy.random").default_rng(3)


@case(57, "random state", "free", "note", library="numpy.random")
def random_state(folder, stack):
    return needs("numpy.random").RandomState(3)


@case(57, "random", "free", "note")
def plain_random(folder, stack):
    return random.Random(3)


@case(58, "lazy xarray", "node", "soft", library="xarray")
def lazy_xarray(folder, stack):
    xarray = needs("xarray")
    needs("netCDF4")
    xarray.Dataset({"a": ("x", [1.0, 2.0])}).to_netcdf(folder / "xarray", engine="netcdf4")
    return closing(stack, xarray.open_dataset(folder / "xarray", engine="netcdf4"))


@case(60, "slice of a table", "free", "note", library="pyarrow")
def table_slice(folder, stack):
    return needs("pyarrow").table({"a": list(range(1_000_000))}).slice(0, 3)


@case(61, "parquet file", library="pyarrow.parquet")
def parquet_file(folder, stack):
    parquet = needs("pyarrow.parquet")
    parquet.write_table(needs("pyarrow").table({"a": [1]}), folder / "parquet")
    return closing(stack, parquet.ParquetFile(folder / "parquet"))


@case(61, "file of pyarrow", library="pyarrow")
def arrow_file(folder, stack):
    (folder / "arrow").write_bytes(b"x")
    return closing(stack, needs("pyarrow").OSFile(str(folder / "arrow")))


@case(61, "scanner", library="pyarrow.dataset")
def scanner(folder, stack):
    needs("pyarrow.parquet").write_table(needs("pyarrow").table({"a": [1]}), folder / "scan")
    return needs("pyarrow.dataset").dataset(folder / "scan").scanner()


@case(62, "memory file system", library="fsspec")
def memory_files(folder, stack):
    return needs("fsspec").filesystem("memory")


@case(63, "lmdb environment", library="lmdb")
def lmdb_environment(folder, stack):
    return closing(stack, needs("lmdb").open(str(folder / "lmdb")))


@case(64, "video capture", library="cv2")
def video_capture(folder, stack):
    return closing(stack, needs("cv2").VideoCapture(), "release")


@case(64, "ORB", library="cv2")
def orb(folder, stack):
    return needs("cv2").ORB_create()


@case(65, "open port", library="serial")
def open_port(folder, stack):
    import os
    import pty

    ours, theirs = pty.openpty()
    stack.callback(os.close, ours)
    stack.callback(os.close, theirs)
    return closing(stack, needs("serial").Serial(os.ttyname(theirs)))


@case(66, "instrument", library="pyvisa.resources")
def instrument(folder, stack):
    kind = needs("pyvisa.resources").MessageBasedResource
    return type("Quiet", (kind,), {"__init__": lambda _: None, "__del__": lambda _: None})()


@case(67, "faiss index", "process", "soft", library="faiss")
def faiss_index(folder, stack):
    made = needs("faiss").IndexFlatL2(256)
    made.add(needs("numpy").zeros((2000, 256), "float32"))
    return made


@case(67, "spacy model", "process", "soft", library="spacy")
def spacy_model(folder, stack):
    return needs("spacy").blank("en")


# -- screens, logs, figures, errors -------------------------------------------------------------


@case(77, "logger with handlers", "free", "note")
def logger(folder, stack):
    made = logging.getLogger("scopekit.tests.pinned")
    handler = logging.NullHandler()
    made.addHandler(handler)
    stack.callback(made.removeHandler, handler)
    return made


@case(78, "handler of a logger")
def handler(folder, stack):
    return closing(stack, logging.StreamHandler())


@case(79, "figure", "free", library="matplotlib.figure")
def figure(folder, stack):
    return needs("matplotlib.figure").Figure()


@case(80, "tkinter window", "thread", library="tkinter")
def tkinter_window(folder, stack):
    kind = needs("tkinter").Misc
    return kind.__new__(kind)


@case(80, "PySide6 object", "thread", library="PySide6.QtCore")
def pyside_object(folder, stack):
    return needs("PySide6.QtCore").QObject()


@case(80, "PyQt6 object", "thread", library="PyQt6.QtCore")
def pyqt_object(folder, stack):
    return needs("PyQt6.QtCore").QObject()


@case(81, "raised error", "free", "note")
def raised_error(folder, stack):
    try:
        int("no number")
    except ValueError as error:
        return error
