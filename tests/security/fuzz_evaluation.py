"""The readers of what is evaluated: pairs, lists, meta files, landmarks, single images and photos."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.security.target import Files, Planted, Target, Tiny, attempt, encoded


def bin_seeds(folder: Path) -> list[Files]:
    images = [encoded("PNG", 4), encoded("JPEG", 8), encoded("PNG", 4), b"z" * 30]
    arrays = [np.frombuffer(data, np.uint8) for data in images]
    contents: list[Any] = [
        (images, [True, False]),
        (arrays, np.array([True, False])),
        ([*images[:3], Planted()], [True, False]),
        ([bytearray(data) for data in images], [np.bool_(True), False]),
    ]
    return [{"set.bin": pickle.dumps(content, protocol)} for content in contents for protocol in (0, 2, 3, 4, 5)]


def read_bin_file(folder: Path) -> None:
    from proxylesskd.data.bin_pickle import read_bin

    images, same = read_bin(folder / "set.bin")
    assert len(images) == 2 * len(same)
    assert all(isinstance(data, bytes) for data in images)


def pair_seeds(folder: Path) -> list[Files]:
    images = {f"{who}/{who}_{i:04d}.jpg": encoded("JPEG", 8 + i) for who in ("Ann", "Bob") for i in (1, 2)}
    lfw = "2\t1\nAnn\t1\t2\nAnn\t1\tBob\t2\nBob\t1\t2\nBob\t1\tAnn\t1\n"
    rows = "Ann/Ann_0001.jpg,Ann/Ann_0002.jpg,1,0\nAnn/Ann_0001.jpg,Bob/Bob_0002.jpg,false,1\n"
    return [
        {"pairs.txt": lfw.encode(), **images},
        {"pairs.txt": f"first,second,same,fold\n{rows}".encode(), **images},
        {"pairs.txt": b"1\nAnn 1 2\nAnn 1 Bob 1\n", **images},
    ]


def read_pair_list(folder: Path) -> None:
    from proxylesskd.data.pairs import read_pairs

    assert len(read_pairs(folder / "pairs.txt")) > 0


def image_seeds(folder: Path) -> list[Files]:
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("JPEG", "RGB", {"quality": 80}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {"subsampling": 0}),
        ("JPEG", "RGB", {"restart_marker_blocks": 2, "subsampling": 1}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "I;16", {}),
        ("PNG", "1", {}),
        ("PNG", "LA", {}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
    ]
    return [{"image": encoded(kind, size, mode, **options)} for kind, mode, options in ways for size in (24, 112)]


def read_image(folder: Path) -> None:
    from proxylesskd.data.decode import decode, image_size

    data = (folder / "image").read_bytes()
    attempt(lambda: image_size(data))
    found = decode(data, 112)
    assert found.shape == (3, 112, 112)


def photo_seeds(folder: Path) -> list[Files]:
    seeds = []
    for kind, turned in (("JPEG", 6), ("JPEG", 1), ("PNG", 3), ("WEBP", 8)):
        exif = Image.Exif()
        exif[0x0112] = turned
        seeds.append({"photo": encoded(kind, 40, exif=exif.tobytes())})
    clear = io.BytesIO()
    Image.new("RGBA", (30, 20), (9, 200, 9, 77)).save(clear, "PNG")
    film = io.BytesIO()
    Image.new("RGB", (9, 9)).save(film, "WEBP", save_all=True, append_images=[Image.new("RGB", (9, 9), "red")])
    return [*seeds, *image_seeds(folder), {"photo": clear.getvalue()}, {"photo": film.getvalue()}]


def read_one_photo(folder: Path) -> None:
    from proxylesskd.photos.photo import pixels_in, read_photo

    data = next(path for path in folder.iterdir() if path.is_file()).read_bytes()
    attempt(lambda: pixels_in(data))
    pixels = read_photo(data)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


def landmark_seeds(folder: Path) -> list[Files]:
    from proxylesskd.photos.landmarks import COLUMNS

    points = "38.3,51.7,73.5,51.5,56.0,71.7,41.5,92.4,70.7,92.2"
    bare = "".join(f"p{i}/a b.jpg,{points}\n" for i in range(5))
    rows = "".join(f'"p{i}/{i}.jpg",{points},0.9,{i}.0,1.00,50,60,112,112,detected\n' for i in range(4))
    return [{"l.csv": text.encode()} for text in (bare, f"\ufeff{','.join(COLUMNS)}\n{rows}")]


def read_marks(folder: Path) -> None:
    from proxylesskd.photos.landmarks import read_found, read_landmarks

    attempt(lambda: read_found(folder / "l.csv"))
    found = read_landmarks(folder / "l.csv")
    assert all(np.isfinite(points).all() for points in found.values())


def ijb_seeds(folder: Path) -> list[Files]:
    points = "".join(f"{i}.jpg 38.3 51.7 73.5 51.5 56.0 71.7 41.5 92.4 70.7 92.2 0.{90 + i}\n" for i in range(1, 9))
    media = "".join(f"{i}.jpg {7 * (i % 4) + 1} {100 + i % 5}\n" for i in range(1, 9))
    pairs = "1 8 1\n8 15 0\n15 22 0\n22 1 1\n"
    start = {"meta/ijbc_name_5pts_score.txt": points, "meta/ijbc_face_tid_mid.txt": media}
    search = {
        "meta/ijbc_1N_gallery_G1.csv": "TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,5,img/1.png\n1,5,img/2.png\n",
        "meta/ijbc_1N_gallery_G2.csv": "TEMPLATE_ID,SUBJECT_ID,FILENAME\n8,6,img/3.png\n",
        "meta/ijbc_1N_probe_mixed.csv": "TEMPLATE_ID,SUBJECT_ID,FILENAME\n15,5,img/1.png\n22,6,frames/2.png\n",
    }
    verify = {"meta/ijbc_template_pair_label.txt": pairs}
    sets = (start | verify, start | search, start | verify | search)
    turned = [dict(sorted(each.items(), key=lambda file, i=i: hash_of(file[0], i))) for i, each in enumerate(sets * 3)]
    return [{name: text.encode() for name, text in each.items()} for each in turned]


def hash_of(name: str, number: int) -> int:
    """Order the files of a set otherwise in every copy, since the first one is changed most."""
    return sum(map(ord, name)) * (number + 3) % 11


def read_meta(folder: Path) -> None:
    from proxylesskd.protocols.ijb_meta import read_ijb

    found = read_ijb(folder)
    assert len(found.names) == len(found.template) == len(found.media) == len(found.landmarks)
    assert 0 <= found.template.min() <= found.template.max() < len(found.ids)
    if found.pairs is not None:
        assert min(found.pairs.first.min(), found.pairs.second.min()) >= 0
        assert max(found.pairs.first.max(), found.pairs.second.max()) < len(found.ids)
    for subjects in (*found.galleries.values(), *([found.probes] if found.probes else [])):
        assert 0 <= subjects.templates.min() <= subjects.templates.max() < len(found.ids)


OWN = {
    "pairs": ("first,second,same,fold", ["0,1,1,0", "0,2,0,1", "2,3,1,1", "1,3,0,0"]),
    "groups": ("first,second,same,group", ["0,1,1,a", "0,2,0,a", "2,3,1,b", "1,3,0,b"]),
    "open set": ("path,identity,role", ["0,ann,gallery", "1,ann,probe", "2,bob,probe", "3,,distractor"]),
    "all pairs": ("path,identity", ["0,ann", "1,ann", "2,bob", "3,bob"]),
    "blufr": (
        "trial,path,identity,role",
        ["1,0,ann,gallery", "1,1,ann,probe", "1,2,bob,probe", "2,3,bob,gallery", "2,2,bob,probe"],
    ),
}


def own_seeds(folder: Path) -> list[Files]:
    tiny = Tiny()
    images = {str(i): tiny.read(i)[0] for i in range(4)}
    return [{"own.csv": "\n".join([header, *rows, ""]).encode(), **images} for header, rows in OWN.values()]


def read_own(folder: Path) -> None:
    from proxylesskd.data.pairs import read_pairs
    from proxylesskd.protocols.all_pairs import labelled
    from proxylesskd.protocols.blufr import read_trials
    from proxylesskd.protocols.group_sets import read_groups
    from proxylesskd.protocols.open_set import read_open_set
    from proxylesskd.protocols.own import kind_of

    path = folder / "own.csv"
    kind = kind_of(path)
    if kind == "groups":
        groups = read_groups(path)
        for group in groups.load:
            attempt(lambda group=group: groups.read(group))
        return
    readers = {"pairs": read_pairs, "blufr": read_trials, "open set": read_open_set, "all pairs": labelled}
    readers[kind](path)


def choice_seeds(folder: Path) -> list[Files]:
    rows = "".join(f"{i},{who}\n" for i, who in enumerate(("ann", "bob", "new, one", "cid", "ann")))
    return [{"kept.csv": text.encode()} for text in (f"image,identity\n{rows}", '\ufeffimage,identity\n"3",é\n')]


def read_choice(folder: Path) -> None:
    from proxylesskd.data.listed import listed

    chosen = listed(Tiny(), folder / "kept.csv")
    assert chosen.labels.max() < len(chosen.identities)
    for index in range(len(chosen)):
        chosen.read(index)


TARGETS: dict[str, Target] = {
    "bin_pickle": Target(bin_seeds, read_bin_file),
    "pairs": Target(pair_seeds, read_pair_list),
    "decode": Target(image_seeds, read_image),
    "photo": Target(photo_seeds, read_one_photo),
    "landmarks": Target(landmark_seeds, read_marks),
    "ijb": Target(ijb_seeds, read_meta),
    "own": Target(own_seeds, read_own),
    "listed": Target(choice_seeds, read_choice),
}
