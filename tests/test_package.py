"""The package as a whole: what importing it costs."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import trio

import mcp_gateway


def test_version_is_the_one_that_is_installed() -> None:
    assert mcp_gateway.__version__ == version("mcp-gateway")


async def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import mcp_gateway; print(sorted(set(sys.modules) - before))"
    done = await trio.run_process([sys.executable, "-c", code], capture_stdout=True)
    assert done.stdout.decode().strip() == "['mcp_gateway']"


def test_pages_that_the_code_names_are_in_the_repository() -> None:
    package = Path(mcp_gateway.__file__).parent
    root = package.parent
    named = {
        (page, str(module.relative_to(root)))
        for module in package.rglob("*.py")
        for page in re.findall(r"docs/[a-z0-9/_-]+\.md", module.read_text(encoding="utf-8"))
    }
    assert {page for page, _ in named} >= {"docs/architecture.md", "docs/invariants.md"}
    assert [pair for pair in sorted(named) if not (root / pair[0]).is_file()] == []
