"""The readers of labelled images: valid sets of every format, and how to read them."""

from __future__ import annotations

import io
import json
import os
import random
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from proxylesskd.data.source import open_source
from tests.security.target import READ, Files, Target, Tiny, attempt, collect, encoded, opened, poison, put, read_all


def record_seeds(folder: Path) -> list[Files]:
    from proxylesskd.data.formats.recordio import write_record

    write_record(Tiny(), folder / "set")
    files = collect(folder / "set")
    bare = {name: data for name, data in files.items() if name == "train.rec"}
    return [files, files, bare]


def read_records(folder: Path) -> None:
    from proxylesskd.data.formats.record_file import RecordFile

    file = RecordFile(folder / "train.rec")
    numbers = np.frombuffer((folder / "offsets").read_bytes()[:400].ljust(8, b"\0")[: 400 // 8 * 8], np.uint8)
    offsets = np.concatenate([numbers.astype(np.int64) * 4, np.array([0, file.size - 40])])
    attempt(lambda: file.heads(offsets))
    for offset in offsets.tolist()[:READ]:
        attempt(lambda offset=offset: file.record(offset))
    attempt(file.scan)


def record_file_seeds(folder: Path) -> list[Files]:
    from proxylesskd.data.formats.record_file import MAGIC_BYTES, pack

    cut = pack([3.0], 1, b"abcd" + MAGIC_BYTES + b"efgh" + MAGIC_BYTES + b"ij")
    data = pack([1.0, 5.0], 0, b"") + pack([2.0], 1, encoded("JPEG", 8)) + cut + pack([7.0] * 9, 2, poison())
    starts = [at // 4 for at in range(0, len(data), 4) if data[at : at + 4] == MAGIC_BYTES]
    return [{"train.rec": data, "offsets": bytes(start % 256 for start in starts)}]


def tar_of(files: dict[str, bytes], form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def shard_seeds(folder: Path) -> list[Files]:
    seeds: list[Files] = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        long = "d" * (60 if form == tarfile.USTAR_FORMAT else 150) + "/"
        named, numbered = {}, {}
        for i in range(4):
            named |= {f"{long}{i}.jpg": b"x" * 40 * i, f"{long}{i}.json": json.dumps({"identity": f"é{i}"}).encode()}
            numbered |= {f"{i:04d}.png": b"y" * 30, f"{i:04d}.cls": b"%d" % (i // 2), f"{i:04d}.pyd": poison()}
        seeds += [{"0.tar": tar_of(named, form)}, {"0.tar": tar_of(numbered, form), "1.tar": tar_of(numbered, form)}]
    for number, seed in enumerate(list(seeds[:2])):
        place = folder / str(number)
        put(place, seed)
        open_source(f"wds:{place}")
        seeds.append(collect(place))  # with the index that was stored beside the shards
    return seeds


def mend_tar(data: bytes, chance: random.Random) -> bytes:
    """Mostly make the headers' sums right again."""
    if chance.random() < 0.2:
        return data
    fixed = bytearray(data)
    for at in range(0, len(fixed) - 511, 512):
        header = fixed[at : at + 512]
        if header[257:262] == b"ustar" or (header[156:157] in b"0xLgK5" and header[100:101] == b"0"):
            header[148:156] = b" " * 8
            fixed[at + 148 : at + 156] = b"%06o\0 " % (sum(header) % 8**6)
    return bytes(fixed)


def parquet_seeds(folder: Path) -> list[Files]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    extension = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": poison()}
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["ann", "bob", "cid"]}}
    hub = {"huggingface": json.dumps({"info": {"features": features}})}
    tiny = Tiny()
    images = [{"bytes": tiny.read(i)[0][:50], "path": f"{i}.jpg"} for i in range(12)]
    nested, plain = pa.struct([("bytes", pa.binary()), ("path", pa.string())]), pa.binary()
    choices: list[tuple[Any, Any, dict[str, Any]]] = [
        (nested, pa.int64(), {"compression": "NONE", "use_dictionary": False}),
        (nested, pa.int64(), {"compression": "snappy", "data_page_version": "2.0"}),
        (plain, pa.string(), {"compression": "zstd", "row_group_size": 5}),
        (plain, pa.string(), {"compression": "gzip", "row_group_size": 5, "use_dictionary": False}),
        (plain, pa.int32(), {"compression": "brotli", "data_page_version": "2.0", "data_page_size": 64}),
        (plain, pa.int8(), {"compression": "lz4", "row_group_size": 3, "write_page_index": True}),
    ]
    seeds = []
    for number, (image, label, options) in enumerate(choices):
        rows = images if image == nested else [i["bytes"] for i in images]
        who = [f"p{i % 3}" if label == pa.string() else i % 3 for i in range(12)]
        rows = [None if number % 2 and i == 4 else row for i, row in enumerate(rows)]
        field = pa.field("extra", pa.binary() if number != 1 else pa.float32(), metadata=extension)
        schema = pa.schema([("image", image), ("label", label)], metadata=hub if number < 2 else None)
        table = pa.table({"image": rows, "label": who}, schema=schema)
        if number == 1:
            table = table.append_column(field, pa.array([1.0] * 12, pa.float32()))
        path = folder / f"{number}.parquet"
        pq.write_table(table, path, **{"store_schema": number != 4, **options})
        seeds.append({"f.parquet": path.read_bytes()})
    return [*seeds, {"0.parquet": seeds[2]["f.parquet"], "1.parquet": seeds[3]["f.parquet"]}]


def lmdb_seeds(folder: Path) -> list[Files]:
    import lmdb

    from proxylesskd.data.formats.lmdb import write_lmdb

    write_lmdb(Tiny(), folder / "ours")
    seeds = [collect(folder / "ours")]
    numbered = {b"num-samples": b"8"}
    numbered |= {b"image-%09d" % i: encoded("JPEG", 8)[:200] for i in range(1, 9)}
    numbered |= {b"label-%09d" % i: b"%d" % (i % 3) for i in range(1, 9)}
    named = {b"p%d/%03d.jpg" % (i % 5, i): encoded("JPEG", 8)[: 100 + 60 * (i % 60)] for i in range(60)}
    pickled = {b"%d" % i: poison() for i in range(3)}
    for number, entries in enumerate((numbered, named, pickled)):
        place = folder / f"by-library-{number}"
        with lmdb.open(str(place), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
            for key, value in entries.items():
                transaction.put(key, value)
        data = (place / "data.mdb").read_bytes()
        seeds.append({"data.mdb": data[: 4096 * (2 + len(data[8192:].rstrip(b"\0")) // 4096 + 1)]})
    return seeds


def list_seeds(folder: Path) -> list[Files]:
    images = {f"i/{i}.jpg": b"image" * i for i in range(4)}
    texts = [
        'path,label\ni/0.jpg,ann\ni/1.jpg,bob\n"i/2.jpg","c ""i"" d"\ni/3.jpg,é\n',
        "\ufeffimage\tn\tidentity\r\ni/0.jpg\t1\t7\r\ni/1.jpg\t2\t12\r\ni/3.jpg\t3\t7\r\n",
        "path,label\n" + "".join(f"i/{i % 4}.jpg,{i % 7}\n" for i in range(60)),
    ]
    order = {".proxylesskd-order.json": b'{"identities": ["bob", "c \\"i\\" d", "ann"]}'}
    lists = [{"l.csv": text.encode(), **images} for text in texts]
    return [*lists, order | lists[0], lists[0] | order]


@contextmanager
def without(module: str) -> Iterator[None]:
    kept = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(module)
        if kept is not None:
            sys.modules[module] = kept


def read_list(folder: Path) -> None:
    """Read by both parsers, inside the root and out of it."""
    refused = attempt(lambda: read_all(open_source(f"csv:{folder}/l.csv")))
    with without("pyarrow"):
        attempt(lambda: read_all(open_source(f"csv:{folder}/l.csv?outside=yes")))
    if refused is not None:
        raise refused


def folder_seeds(folder: Path) -> list[Files]:
    return [{f"p{i}/{j}.jpg": b"image" * j for i in range(3) for j in range(3)}]


def join_seeds(folder: Path) -> list[Files]:
    images = {f"{place}/p{i}/{j}.jpg": b"x" for place in "ab" for i in range(2) for j in range(2)}
    top = 'identities = "by-name"\nseed = 3\n'
    text = '[[source]]\nuri = "folder:a"\nweight = 2.5\nname = "one"\n[[source]]\nuri = "folder:b"\nweight = 1\n'
    return [{"j.toml": data.encode(), **images} for data in (text, top + text)]


def read_join(folder: Path) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        read_all(open_source("join:j.toml"))
    finally:
        os.chdir(before)


TARGETS: dict[str, Target] = {
    "folder": Target(folder_seeds, opened("folder:{}")),
    "rec": Target(record_seeds, opened("rec:{}")),
    "record_file": Target(record_file_seeds, read_records),
    "wds": Target(shard_seeds, opened("wds:{}"), mend_tar),
    "parquet": Target(parquet_seeds, opened("parquet:{}")),
    "lmdb": Target(lmdb_seeds, opened("lmdb:{}")),
    "csv": Target(list_seeds, read_list),
    "join": Target(join_seeds, read_join),
}
