import io

from rich.console import Console

from proxylesskd.comparison.listing import methods_table, needs_of
from proxylesskd.methods.catalogue import CATALOGUE


def test_every_method_is_listed_with_its_paper() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(methods_table())
    text = console.export_text()
    for name, entry in CATALOGUE.items():
        assert name in text
        assert entry.paper.rpartition(" ")[2] in text


def test_needs_are_those_of_the_whole_sum() -> None:
    assert needs_of("alone") == []
    assert needs_of("proxyless") == ["classifier"]
    assert needs_of("kd") == ["classifier", "teacher"]
