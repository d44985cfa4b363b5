from pathlib import Path

import numpy as np

import proxylesskd as pk
from proxylesskd.comparison.material import Material, pairs_fingerprint, source_fingerprint
from proxylesskd.recipe import override_recipe
from tests.comparison.conftest import House
from tests.evaluation.samples import people
from tests.faces import MemorySource


def test_a_source_is_known_by_names_and_labels() -> None:
    one = source_fingerprint(MemorySource(3, 2))
    assert one == source_fingerprint(MemorySource(3, 2))
    assert len({one, source_fingerprint(MemorySource(2, 3)), source_fingerprint(MemorySource(3, 3))}) == 3
    renamed = MemorySource(3, 2)
    renamed.identities = ["x", *renamed.identities[1:]]
    moved = MemorySource(3, 2)
    moved.labels = moved.labels[::-1].copy()
    assert len({one, source_fingerprint(renamed), source_fingerprint(moved)}) == 3


def test_pairs_are_known_by_pixels_order_and_kind() -> None:
    one = people(4, 2, 5)
    same = pairs_fingerprint(one)
    assert same == pairs_fingerprint(people(4, 2, 5))
    one.images[0, 0, 0, 0] += 1
    assert pairs_fingerprint(one) != same
    one.images[0, 0, 0, 0] -= 1
    one.same[0] = ~one.same[0]
    assert pairs_fingerprint(one) != same


def test_a_projected_classifier_says_the_dimension_of_students_and_gallery(house: House, tmp_path: Path) -> None:
    pairs = house.place / "test" / "pairs.csv"
    whole = Material.open(house.recipe, pairs)
    assert (whole.dim, whole.gallery_dim, whole.projected) == (24, 24, False)
    assert set(whole.fingerprints) == {"data", "pairs", "classifier", "teacher"}
    right = pk.InheritedClassifier.load(house.place / "c.safetensors")
    pk.project(right, 4).save(tmp_path / "small.safetensors")
    recipe = override_recipe(house.recipe, f"method.classifier={tmp_path / 'small.safetensors'}")
    small = Material.open(recipe, pairs)
    assert (small.dim, small.gallery_dim, small.projected) == (4, 4, True)
    bare = Material.open(override_recipe(house.recipe, "method.classifier=''"), pairs)
    assert (bare.dim, bare.gallery_dim) == (24, 24)
    nobody = Material(bare.source, bare.pairs)
    assert (nobody.dim, nobody.gallery_dim) == (512, None)
    nobody.audit()  # nothing to look at
    assert np.array_equal(whole.source.labels, bare.source.labels)


def test_listed_faces_are_another_source(house: House, tmp_path: Path) -> None:
    source = pk.open_source(house.recipe.data.train)
    lines = [f"{source.name(i)},{source.identities[source.labels[i]]}" for i in range(12)]
    (tmp_path / "keep.csv").write_text("\n".join(["image,identity", *lines]) + "\n")
    kept = override_recipe(house.recipe, f"data.keep={tmp_path / 'keep.csv'}")
    found = Material.open(kept, house.place / "test" / "pairs.csv")
    assert (len(found.source), len(found.source.identities)) == (12, 2)
    assert found.fingerprints["data"] != source_fingerprint(source)
