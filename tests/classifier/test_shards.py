from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from proxylesskd.classifier.from_checkpoint import read_head
from proxylesskd.classifier.head import NoHeadError
from proxylesskd.errors import UserError

C, D = 92, 5
ROWS = torch.randn(C, D, generator=torch.Generator().manual_seed(0))
Writer = Callable[[Path, int, Tensor], None]


def _checkpoint_gpu(folder: Path, rank: int, part: Tensor) -> None:
    content = {
        "epoch": 5,
        "global_step": 100,
        "state_dict_backbone": {"conv.weight": torch.ones(2, 3, 1, 1), "fc.weight": torch.ones(D, 30)},
        "state_dict_softmax_fc": {"weight": part},
        "state_optimizer": {"state": {0: {"momentum_buffer": part * 3}}, "param_groups": [{"params": [0, 1]}]},
        "state_lr_scheduler": {"last_epoch": 2, "_last_lr": [0.1]},
    }
    torch.save(content, folder / f"checkpoint_gpu_{rank}.pt")


def _softmax_fc_gpu(folder: Path, rank: int, part: Tensor) -> None:
    torch.save({"weight": part}, folder / f"softmax_fc_gpu_{rank}.pt")


def _older(folder: Path, rank: int, part: Tensor) -> None:
    torch.save(part, folder / f"rank_{rank}_softmax_weight.pt")
    torch.save(part * 7, folder / f"rank_{rank}_softmax_weight_mom.pt")


def _cvlface(folder: Path, rank: int, part: Tensor) -> None:
    content = {"partial_fc.weight": part, "partial_fc.batch_mean": torch.ones(1), "partial_fc.batch_std": torch.ones(1)}
    torch.save(content, folder / f"classifier_rank{rank}.pt")


def _cvlface_safetensors(folder: Path, rank: int, part: Tensor) -> None:
    safetensors.torch.save_file({"partial_fc.weight": part.clone()}, folder / f"classifier_rank{rank}.safetensors")


def _tface_kernel(folder: Path, rank: int, part: Tensor) -> None:
    torch.save({"CASIA": {"kernel": part.T.contiguous()}}, folder / f"HEAD_Epoch_12_Split_{rank}_checkpoint.pth")


def _tface_weight(folder: Path, rank: int, part: Tensor) -> None:
    torch.save({"MS1M": {"weight": part}}, folder / f"HEAD_Epoch_12_Split_{rank}_checkpoint.pth")


def _tface_bare(folder: Path, rank: int, part: Tensor) -> None:
    torch.save({"MS1M": part}, folder / f"HEAD_Epoch_12_Split_{rank}_checkpoint.pth")


WRITERS: list[tuple[Writer, str]] = [
    (_checkpoint_gpu, "InsightFace checkpoint"),
    (_softmax_fc_gpu, "InsightFace PartialFC"),
    (_older, "InsightFace PartialFC (older)"),
    (_cvlface, "CVLface PartialFC"),
    (_cvlface_safetensors, "CVLface PartialFC"),
    (_tface_kernel, "TFace head"),
    (_tface_weight, "TFace head"),
    (_tface_bare, "TFace head"),
]


def write(folder: Path, writer: Writer, sizes: Sequence[int], rows: Tensor = ROWS) -> Path:
    folder.mkdir(exist_ok=True)
    start = 0
    for rank, size in enumerate(sizes):
        writer(folder, rank, rows[start : start + size].clone())
        start += size
    assert start == len(rows)
    return folder


def first_ranks_hold_more(world: int) -> list[int]:
    sizes = [0] * world
    for row in range(C):
        sizes[row % world] += 1
    return sizes


@pytest.mark.parametrize(("writer", "kind"), WRITERS)
@pytest.mark.parametrize("world", [1, 3, 8, 11])
def test_shards_of_any_split_are_joined_exactly(tmp_path: Path, writer: Writer, kind: str, world: int) -> None:
    write(tmp_path, writer, first_ranks_hold_more(world))
    (tmp_path / "training.log").write_text("Epoch 1")
    torch.save({"conv.weight": torch.ones(1)}, tmp_path / "model.pt")
    some_file = sorted(file for file in tmp_path.iterdir() if "mom" not in file.name and file.name[0] in "HrcCs")[-1]
    for path in (tmp_path, some_file):
        head = read_head(path)
        assert torch.equal(head.rows, ROWS)
        assert head.kind.startswith(kind + ",")
        assert (len(head.files), head.notes, head.padding) == (world, [], 0)
    if world == 3:
        assert head.kind.endswith("3 shards, 31+31+30 rows")
    assert not any("mom" in name for name in head.files)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision(tmp_path: Path, kind: torch.dtype) -> None:
    stored = ROWS.to(kind)
    head = read_head(write(tmp_path, _softmax_fc_gpu, [31, 31, 30], stored))
    assert head.rows.dtype == torch.float32
    assert head.rows.tolist() == stored.tolist()


@pytest.mark.parametrize("pad", ["zeros", "copies", "fresh"])
def test_rows_rounded_up_to_the_number_of_gpus(tmp_path: Path, pad: str) -> None:
    world, dim = 8, 64
    rows = torch.randn(C, dim, generator=torch.Generator().manual_seed(1))
    extra = math.ceil(C / world) * world - C
    tails = {"zeros": torch.zeros(extra, dim), "copies": rows[-extra:], "fresh": 0.01 * torch.randn(extra, dim)}
    write(tmp_path, _cvlface, [math.ceil(C / world)] * world, torch.cat([rows, tails[pad]]))
    head = read_head(tmp_path, count=C)
    assert torch.equal(head.rows, rows)
    assert head.padding == extra == 4
    assert head.notes[0].startswith("4 rows of padding")
    if pad != "fresh":
        with pytest.raises(UserError, match="the last 4 of them zero or copies"):
            read_head(tmp_path)


@pytest.mark.parametrize(("writer", "_"), WRITERS)
def test_a_missing_rank_is_named(tmp_path: Path, writer: Writer, _: str) -> None:
    write(tmp_path, writer, first_ranks_hold_more(11))
    (gone,) = (file for file in tmp_path.iterdir() if "9" in file.name and "mom" not in file.name)
    gone.unlink()
    with pytest.raises(UserError, match=rf"ranks 0 to 10 in .*found no '{gone.name}'"):
        read_head(tmp_path)


def test_a_missing_last_rank_shows_in_the_number_of_rows(tmp_path: Path) -> None:
    write(tmp_path, _softmax_fc_gpu, [31, 31, 30])
    (tmp_path / "softmax_fc_gpu_2.pt").unlink()
    with pytest.raises(UserError, match="each of 92 identities, found 62 rows; either a shard is missing"):
        read_head(tmp_path, count=C)


def test_another_split_is_noted(tmp_path: Path) -> None:
    head = read_head(write(tmp_path, _softmax_fc_gpu, [30, 40, 22]))
    assert torch.equal(head.rows, ROWS)
    assert "30+40+22 rows are not the even split" in head.notes[0]


def test_shards_of_different_trainings(tmp_path: Path) -> None:
    write(tmp_path, _softmax_fc_gpu, [46, 46])
    torch.save({"weight": torch.ones(46, D + 1)}, tmp_path / "softmax_fc_gpu_1.pt")
    with pytest.raises(UserError, match=r"one dimension, found 5 in 'softmax_fc_gpu_0.pt' and 6 in 'softmax_fc_gpu_1"):
        read_head(tmp_path)
    _softmax_fc_gpu(tmp_path, 1, ROWS[:46].clone())
    with pytest.raises(UserError, match=r"found the same rows in 'softmax_fc_gpu_0.pt' and 'softmax_fc_gpu_1.pt'"):
        read_head(tmp_path)
    torch.save({"head.weight": ROWS[46:].clone()}, tmp_path / "softmax_fc_gpu_1.pt")
    with pytest.raises(UserError, match=r"expected 'weight' in every shard, found 'head.weight'"):
        read_head(tmp_path)


def test_two_formats_in_one_folder(tmp_path: Path) -> None:
    write(tmp_path, _softmax_fc_gpu, [46, 46])
    write(tmp_path, _checkpoint_gpu, [31, 31, 30], ROWS * 2)
    with pytest.raises(
        UserError, match=r"found checkpoint_gpu_0.pt … \(3 files\), softmax_fc_gpu_0.pt … \(2 files\); gi"
    ):
        read_head(tmp_path)
    assert torch.equal(read_head(tmp_path / "softmax_fc_gpu_1.pt").rows, ROWS)
    assert torch.equal(read_head(tmp_path / "checkpoint_gpu_2.pt").rows, ROWS * 2)


def test_one_rank_in_two_files(tmp_path: Path) -> None:
    write(tmp_path, _cvlface, [46, 46])
    _cvlface_safetensors(tmp_path, 1, ROWS[46:])
    with pytest.raises(UserError, match=r"one shard of each rank, found 'classifier_rank1.pt' and 'classifier_rank1.s"):
        read_head(tmp_path)


def test_momentum_is_never_taken(tmp_path: Path) -> None:
    write(tmp_path, _older, [46, 46])
    with pytest.raises(UserError, match=r"momentum .*'rank_1_softmax_weight_mom.pt'; give 'rank_1_softmax_weight.pt'"):
        read_head(tmp_path / "rank_1_softmax_weight_mom.pt")


def test_epochs_and_branches_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path, _tface_kernel, [46, 46])
    torch.save({"A": {"kernel": ROWS.T * 2}, "B": {"kernel": ROWS.T * 3}}, tmp_path / "HEAD_Epoch_13_checkpoint.pth")
    with pytest.raises(
        UserError, match=r"HEAD_Epoch_12_Split_0_checkpoint.pth … \(2 files\), HEAD_Epoch_13_checkpoint"
    ):
        read_head(tmp_path)
    assert torch.equal(read_head(tmp_path / "HEAD_Epoch_12_Split_1_checkpoint.pth").rows, ROWS)
    whole = tmp_path / "HEAD_Epoch_13_checkpoint.pth"
    with pytest.raises(UserError, match=r"found several: A.kernel \[5, 92\], B.kernel \[5, 92\]; name one with --key"):
        read_head(whole)
    assert torch.equal(read_head(whole, key="B.kernel").rows, ROWS * 3)


def test_a_checkpoint_without_its_head(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "state_dict_backbone": {"fc.weight": torch.ones(D, 30)}}, tmp_path / "checkpoint_gpu_0.pt")
    with pytest.raises(NoHeadError, match=r"'checkpoint_gpu_0.pt': expected a last layer"):
        read_head(tmp_path)


@pytest.mark.parametrize("name", ["classifier.pt", "center.pth"])
def test_whole_layers_in_a_folder(tmp_path: Path, name: str) -> None:
    content: dict[str, Any] = {"classifier.pt": {"classifier.weight": ROWS}, "center.pth": {"center": ROWS}}
    torch.save(content[name], tmp_path / name)
    assert torch.equal(read_head(tmp_path).rows, ROWS)
