"""Run the code of every page from top to bottom, as a reader who pastes it.

``python docs/fresh.py``. Each page gets an empty namespace and an empty folder. Doctests are held
to their output. A block with ``:class: device`` needs a GPU, and is only compiled.
"""

import doctest
import os
import re
import sys
import tempfile
import textwrap
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"
PAGES = Path(__file__).parent.resolve()
BLOCK = re.compile(
    r"^\.\. (?:code-block:: python|plot::)\n(?P<options>(?: +:.*\n)*)\n(?P<code>(?: +.*\n|\n)+)",
    re.MULTILINE,
)


def blocks(text):
    """The blocks of code and the doctests of a page, with their lines, in the order of the page."""
    found = [(example.lineno, example) for example in doctest.DocTestParser().get_examples(text)]
    for match in BLOCK.finditer(text):
        code = textwrap.dedent(match["code"])
        if not code.lstrip().startswith(">>>"):
            found.append((text.count("\n", 0, match.start("code")), match["options"], code))
    expected = len(re.findall(r"\.\. (?:code-block:: python|plot::)", text))
    assert len(BLOCK.findall(text)) == expected, "a block that is not at the left margin"
    return sorted(found, key=lambda block: block[0])


def run(page):
    """Run a page, and return the number of its blocks and of those that failed."""
    text = page.read_text(encoding="utf-8")
    names, runner = {"__name__": "__main__"}, doctest.DocTestRunner(verbose=False)
    found, failed = blocks(text), 0
    for line, *block in found:
        if isinstance(block[0], doctest.Example):
            test = doctest.DocTest(block, {}, page.stem, str(page), 0, None)
            test.globs = names
            failed += runner.run(test, clear_globs=False).failed
            continue
        options, code = block
        try:  # with as many empty lines before it, a traceback names the line of the page
            program = compile("\n" * line + code, str(page), "exec")
            if ":class: device" not in options:
                exec(program, names)
        except Exception as error:
            print(f"{page.name}, block at line {line + 1}: {type(error).__name__}: {error}")
            failed += 1
    return len(found), failed


def main():
    total = failures = 0
    for page in sorted(PAGES.glob("*.rst")):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            count, failed = run(page)
            os.chdir(PAGES)
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")
        total, failures = total + count, failures + failed
        print(f"{page.name}: {count} blocks, {failed} failed")
    return int(not total or failures > 0)


if __name__ == "__main__":
    sys.exit(main())
