"""The code in the documents runs, and the commands they name exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_library_guide_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), re.S)
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), scope)
    assert len(blocks) == 5 and scope["all_margins"].shape == (5, 300)
    assert scope["chosen"].sum() == 200 and scope["many"].shape == (2, 1000)
    assert scope["hardest"].sum() == 200 and scope["forgotten"].max() <= 3
    assert capsys.readouterr().out.count("\n") == 3


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_files_and_links_named_in_documents_exist(document):
    text = document.read_text(encoding="utf-8")
    for script in re.findall(r"(?:launch|configs)/\w+\.py", text):
        assert (ROOT / script).is_file(), script
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert link.startswith("http") or (document.parent / link).exists(), link
