"""Collecting in several processes, on one machine or many: Ray Data around the same collector."""

import contextlib
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..corpus import Corpus
from ..errors import InputError
from ..models import identity, load_model, spec_of, torch_module
from .collector import Batches, Collector, Job
from .store import differences

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

MOST_BLOCKS = 1000  # Ray keeps track of each
SECONDS_TO_ANSWER = 10.0


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Reads batches in Ray actors, each with a model of its own.

    The plan of batches and the store's commits stay with the process that collects. A worker that
    dies is started again and its batch is done again.

    Attributes
    ----------
    workers : int
        Processes, and models: a GPU each where the model is on one, else an equal share of the
        CPU cores.
    address : str or None
        Of a running cluster, such as ``"auto"`` or ``"ray://head:10001"``; every node must have
        this package, and the model under the same name. None: a cluster on this machine, for the
        time of the call.
    """

    workers: int = 2
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"workers must be at least 1, not {self.workers}")

    def read(
        self, model: "TransformersModel", job: Job, corpus: Corpus, batches: Batches
    ) -> Iterator[pa.Table]:
        """Read batches in the order in which workers finish them."""
        spec, expected = spec_of(model), identity(model).as_dict()
        on_gpu = torch_module(model).device.type == "cuda"
        with _cluster(self.address) as ray:
            cores = int(ray.cluster_resources().get("CPU", 1))
            share = {"num_gpus": 1} if on_gpu else {"num_cpus": max(1, cores // self.workers)}
            items = [
                {"positions": list(batch), "examples": corpus.take(batch).to_jsonl()}
                for batch in batches
            ]
            answered = ray.data.from_items(
                items, override_num_blocks=min(len(items), MOST_BLOCKS)
            ).map_batches(
                _Worker,
                fn_constructor_args=(asdict(spec), expected, job),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=self.workers),
                **share,
            )
            for answers in answered.iter_batches(batch_size=None, batch_format="pyarrow"):
                for answer in answers.to_pylist():
                    if answer["refused"] is not None:
                        raise InputError(answer["refused"])
                    with pa.ipc.open_stream(answer["rows"]) as rows:
                        yield rows.read_all()


ANSWER = pa.schema([("rows", pa.large_binary()), ("refused", pa.string())])


class _Worker:
    """One process with a model: what Ray calls with a batch at a time.

    What it refuses travels as data: an exception would lose its words on the way, and an actor
    that cannot be made is tried again for ever.
    """

    def __init__(self, spec: dict[str, Any], expected: dict[str, Any], job: Job) -> None:
        self._refused: str | None = None
        try:
            model = load_model(**spec)
            found = differences(expected, identity(model).as_dict())
            if found:
                raise InputError(f"a worker has another model ({'; '.join(found)})")
            self._collector = Collector(model, job)
        except InputError as error:
            self._refused = str(error)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows, refused = None, self._refused
        if refused is None:
            try:
                rows = self._read(batch)
            except InputError as error:
                refused = str(error)
        return pa.Table.from_pydict({"rows": [rows], "refused": [refused]}, schema=ANSWER)

    def _read(self, batch: pa.Table) -> bytes:
        examples = Corpus.from_jsonl(batch["examples"][0].as_py(), "batch")
        positions = batch["positions"][0].as_py()
        table = self._collector.read(examples, positions, self._collector.prepare(examples))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        found: bytes = sink.getvalue().to_pybytes()
        return found


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected; disconnected at the end unless the caller was before."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            "the Ray engine needs Ray; run: pip install 'mnskills_viz[ray]'"
        ) from error
    begun_here = not ray.is_initialized()
    if begun_here:
        local: dict[str, Any] = {"include_dashboard": False} if address is None else {}
        # Else its core prints an error that its own library causes (ray-project/ray #53727).
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            _require_answer(address)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="lance is not fork-safe")  # it spawns
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"no Ray cluster at {address!r} ({str(error).splitlines()[0]}); start one with "
                "ray start --head, or leave the address out"
            ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    try:
        yield ray
    finally:
        if begun_here:
            ray.shutdown()


def _require_answer(address: str | None) -> None:
    """Raise OSError if nothing listens at ``host:port``: Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
