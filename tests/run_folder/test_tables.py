"""The tables of a compression are read whole, or it is said why not."""

import math

import numpy as np
import pytest
from helpers.compress_folders import cell, write_table

from margin_jax.errors import InputError
from margin_jax.run_folder.tables import CELLS, read_kept_ids, read_table, rows


def test_a_table_is_read_while_it_is_written(tmp_path):
    write_table(tmp_path, "cells.csv", [cell("smallest", 3, "after", 35.5, 32.0, 33.0, 0.04),
                                        cell("random", 4, "after", 0, 0, 0, status="diverged", reason="a, b \"c\"")])
    whole = read_table(tmp_path, "cells.csv")
    assert tuple(whole) == CELLS and whole["drop"][0] == 3.5 and np.isnan(whole["drop"][1])
    assert whole["reason"].tolist() == ["", 'a, b "c"'] and whole["seed"].tolist() == [3, 4]
    with open(tmp_path / "cells.csv", "a", encoding="utf-8") as file:
        file.write("sgd,0.01,50,smal")
    np.testing.assert_array_equal(read_table(tmp_path, "cells.csv")["rule"], whole["rule"])
    assert rows(whole, drop=math.nan)["rule"].tolist() == ["random"]
    assert rows(whole, rule=("smallest", "random"), seed=3.0)["drop"].tolist() == [3.5]


@pytest.mark.parametrize("content, message", [
    (None, "--workdir of launch/compress.py"), ("", "no row yet"), (",".join(CELLS) + "\n", "no row yet"),
    ("epoch,loss\n1,2\n", "should have the columns"), (",".join(CELLS) + "\nsgd,0.1\n", "expected 19 cells, got 2"),
    (",".join(CELLS) + "\n" + "x," * 18 + "x\n", "should hold numbers")])
def test_tables_that_cannot_be_read_are_explained(tmp_path, content, message):
    if content is not None:
        (tmp_path / "cells.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path, "cells.csv")
    if message == "no row yet" or content is None:
        assert read_table(tmp_path, "cells.csv", required=False)["drop"].size == 0
    with pytest.raises(InputError, match="kept_ids.json"):
        read_kept_ids(tmp_path)
