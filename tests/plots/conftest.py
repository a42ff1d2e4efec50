"""Figures in the tests are coarse and cut no fonts, which takes most of a file's time; a test holds what users get."""

import pytest

from plots import style


@pytest.fixture(name="users_style", autouse=True)
def _users_style(monkeypatch):
    """Draws quickly; gives the style that users get."""
    shipped = dict(style.RC)
    monkeypatch.setitem(style.RC, "savefig.dpi", 40)
    monkeypatch.setitem(style.RC, "pdf.fonttype", 3)
    return shipped
