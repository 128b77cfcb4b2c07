"""Other people's text in our output: escaped, once for each form of output.

Names of people, files and runs may hold anything. Nothing in them may act on a terminal, a spreadsheet, a
plot or TeX, or be left out.
"""

import re
import sys
import unicodedata
from typing import TextIO

_JOINERS = "\u200c\u200d"  # letters of some scripts and emoji need them
_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
}


def printable(text: object, keep: str = "") -> str:
    """Text for a terminal or a line of a log, with whatever could act on these made visible.

    Args:
      text: anything; its `str` is taken.
      keep: control characters to leave as they are.

    Returns:
      The text with control and format characters, line separators and undecodable bytes as backslash escapes.

    Example:
      >>> print(printable("\\x1b[31mred\\n"))
      \\x1b[31mred\\n
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(sign if _is_harmless(sign) or sign in keep else _visible(sign) for sign in text)


def printable_lines(text: object) -> str:
    """`printable`, with line ends kept."""
    return printable(text, keep="\n")


def csv_cell(text: object) -> str:
    """Text of a CSV cell that no spreadsheet takes for a formula: such a text gets an apostrophe in front.

    Example:
      >>> csv_cell("=1+1"), csv_cell("anna")
      ("'=1+1", 'anna')
    """
    text = printable(text)
    return f"'{text}" if text.lstrip(" ").startswith(("=", "+", "-", "@")) else text


def latex(text: object) -> str:
    """Text for LaTeX, every special character of which is printed as it is.

    Example:
      >>> print(latex("a_b^2 ~ 50%"))
      a\\_b\\textasciicircum{}2 \\textasciitilde{} 50\\%
    """
    text = "".join(_LATEX.get(sign, sign) for sign in printable(text))
    return re.sub("-(?=-)", "-{}", text)  # several hyphens would be printed as a dash


def plot_text(text: object) -> str:
    """Text for matplotlib, for which `$` starts a formula and a label that starts with `_` is hidden.

    Line ends are kept. A leading `_` gets a space in front.
    """
    text = printable_lines(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def show(text: object, end: str = "\n", err: bool = False) -> None:
    """Prints lines to stdout, or stderr, with whatever could act on a terminal made visible."""
    print(printable_lines(text), end=end, file=sys.stderr if err else sys.stdout, flush=True)


def plain_console(file: TextIO, width: int):
    """A rich console that writes plain text: brackets, colons and numbers in it mean nothing."""
    import rich.console

    return rich.console.Console(
        file=file,
        width=width,
        color_system=None,
        markup=False,
        emoji=False,
        highlight=False,
        force_jupyter=False,
    )


def _is_harmless(sign: str) -> bool:
    return sign in _JOINERS or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _visible(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
