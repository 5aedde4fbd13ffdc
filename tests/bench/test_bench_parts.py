"""The benchmark's own parts: a wrong one would give wrong figures."""

import asyncio
import os
import time

import msgspec
import psutil
import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from bench import sockets
from bench.accounts import kind_of, per_item, used_between
from bench.fleet import Fleet
from bench.measure import Sample, merged
from bench.people import text_of
from bench.report import Context, Result
from bench.scenarios import mix
from bench.scenarios.transcode import transcode
from bench.stats import latencies, median, percentile, spread


@pytest.mark.parametrize("size", [0, 1, 125, 126, 60_000])
def test_frames_are_what_a_server_reads(size: int) -> None:
    """An independent parser of RFC 6455 reads the text that went in."""
    text = b"x" * size
    reader = StreamReader()
    reader.feed_data(sockets.frame(text))
    parsing = Frame.parse(reader.read_exact, mask=True)
    with pytest.raises(StopIteration) as parsed:
        next(parsing)
    assert (parsed.value.value.opcode, parsed.value.value.data) == (Opcode.TEXT, text)


def test_frames_arrive_in_any_pieces() -> None:
    """However the bytes are cut, each frame is taken once and in order."""
    texts = [b"a", b"b" * 200, b"c" * 70_000, b"d"]
    frames = b"".join(Frame(Opcode.TEXT, text).serialize(mask=False) for text in texts)

    async def cut(size: int) -> list[bytes]:
        taken: list[bytes] = []
        socket = sockets.Socket(taken.append)
        socket.data_received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + frames[:size])
        for start in range(size, len(frames), size):
            socket.data_received(frames[start : start + size])
        return taken

    for size in (1_000, 65_536, len(frames)):
        assert asyncio.run(cut(size)) == texts


def test_answers_are_told_apart() -> None:
    """Kind, number, method and members of what the server writes."""
    result = b'{"jsonrpc":"2.0","result":{"text":"a:b"},"id":17}'
    assert (sockets.kind_of(result), sockets.number_of(result)) == (sockets.Kind.RESULT, 17)
    error = b'{"jsonrpc":"2.0","error":{"code":-32008},"id":3}'
    assert (sockets.kind_of(error), sockets.number_of(error)) == (sockets.Kind.ERROR, 3)
    pushed = (
        b'{"jsonrpc":"2.0","method":"message.new","params":{"event_id":"1-2-3","message":{"text":"#9 x"}}}'
    )
    assert sockets.kind_of(pushed) is sockets.Kind.NOTIFICATION
    assert sockets.method_of(pushed) == b"message.new"
    assert sockets.member_of(pushed, b"text") == b"#9 x"
    with pytest.raises(ValueError, match="is not a valid Kind"):
        sockets.kind_of(b'{"id":17,"jsonrpc":"2.0","result":{}}')


def test_texts_differ() -> None:
    """Neighbouring texts are other words, and each tells its number."""
    texts = [text_of(number) for number in range(1, 200)]
    assert len({text.split(" ", 1)[1] for text in texts}) > 20
    assert texts[16].startswith("#17 ")


def test_percentiles() -> None:
    """Nearest rank: the greatest of a few, the right one of many."""
    assert percentile([], 0.99) == 0
    assert percentile([1.0, 2.0], 0.5) == 2.0
    assert latencies([n / 1000 for n in range(1000)]) == {
        "p50_ms": 500.0, "p99_ms": 990.0, "p999_ms": 999.0, "max_ms": 999.0
    }  # fmt: skip


def test_medians_and_spread() -> None:
    """Figure by figure, also those that are nested."""
    runs = [{"a": 3, "of": {"x": 1.0}}, {"a": 1, "of": {"x": 9.0}}, {"a": 2, "of": {"x": 2.0}}]
    assert median(runs) == {"a": 2, "of": {"x": 2.0}}
    assert spread(runs, "a") == [1, 3]


def test_costs_by_kind() -> None:
    """Processes of a kind are one, and the total is their sum."""
    assert [kind_of(name) for name in ("edge-2", "mongo-0", "mongo-0-1", "epmd", "dbapi-2", "rabbitmq")] == [
        "edge", "mongod", "mongod", "rabbitmq", "dbapi", "rabbitmq"
    ]  # fmt: skip
    used = used_between({"edge": 1.0}, {"edge": 1.5, "nginx": 0.25})
    assert per_item(used, 1000) == {"total": 750.0, "edge": 500.0, "nginx": 250.0}


class Driver:
    """A driver that burns some time, or fails."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def burn(self, seconds: float) -> Sample:
        """Works for so long."""
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass
        sample = Sample()
        sample.counts[self.name] += 1
        return sample

    async def fail(self) -> None:
        """Fails."""
        raise ValueError("no")


def test_fleets_work_and_end() -> None:
    """Drivers answer from their own processes, their time is counted, a failure is told, none is left."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with Fleet(Driver, [("a",), ("b",)]) as fleet:
        began = fleet.seconds()
        assert merged(fleet.each("burn", 0.05)).counts == {"a": 1, "b": 1}
        assert fleet.seconds() - began >= 0.08
        with pytest.raises(RuntimeError, match="ValueError: no"):
            fleet.each("fail")
    left = {child.pid for child in psutil.Process().children(recursive=True)} - before
    # The interpreter's own tracker of shared resources stays with it.
    assert not [pid for pid in left if "resource_tracker" not in " ".join(psutil.Process(pid).cmdline())]


def test_results_are_one_line_of_json() -> None:
    """A result's line has its figures at the top, and their spread."""
    context = Context(runs=3, seconds=0, warm_up=0, told=lambda _: None)
    line = transcode(context, calls=10).line()
    assert "\n" not in line
    told = msgspec.json.decode(line)
    assert told["scenario"] == "transcode"
    assert told["request_us"] > 0
    assert len(told["spread"]["request_us"]) == 2


def test_names_of_results() -> None:
    """Runs that differ in shards or rate do not overwrite each other's files."""
    result = Result.of(
        "send", [{"a": 1}], settings={"shards": 8, "rate": 117.0, "pairs": 32}, headlines=("a",)
    )
    assert result.name == "send-shards-8-rate-117"
    assert os.sep not in result.name


@pytest.mark.parametrize("carried", [0.0014, 0.009, 0.01, 0.014, 0.3])
def test_the_greatest_factor_is_found_from_below_and_from_above(carried: float) -> None:
    """The search ends at a factor that is borne, near to the greatest one, wherever that is."""
    assert carried / mix.FINEST <= mix.greatest(lambda factor: factor <= carried) <= carried


def test_a_machine_that_bears_nothing_is_told() -> None:
    """A search that finds nothing is an error: no run follows at a factor of 0, which no driver takes."""
    with pytest.raises(RuntimeError, match="something else fills the machine"):
        mix.greatest(lambda _: False)
