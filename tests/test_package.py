"""The package as a whole: what importing it costs."""

import sys
from importlib.metadata import version

import trio

import mcp_gateway


def test_version_is_the_one_that_is_installed() -> None:
    assert mcp_gateway.__version__ == version("mcp-gateway")


async def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import mcp_gateway; print(sorted(set(sys.modules) - before))"
    done = await trio.run_process([sys.executable, "-c", code], capture_stdout=True)
    assert done.stdout.decode().strip() == "['mcp_gateway']"
