"""Text from data cannot act on a terminal."""

import io

import pytest

from sweep.commands.terminal import Terminal, plain


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202eabc", "\x00", "\x7f"]
)
def test_control_characters_do_not_reach_it(text):
    out = io.StringIO()
    Terminal(file=out, force_terminal=True).print(f"[bold]{text}[/bold]")
    assert text not in out.getvalue()
    assert out.getvalue().startswith("[bold]")
    assert plain(text) != text


def test_plain_text_stays_as_it_is():
    assert plain("äß 数 [red]x[/red]\nnext") == "äß 数 [red]x[/red]\nnext"
