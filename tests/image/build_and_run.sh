#!/usr/bin/env bash
# The container image without a container engine: built by buildah, run under a read-only root file system as the user
# that it names. Needs root, buildah, debootstrap and curl. Usage: tests/image/build_and_run.sh
#
# Its base is a minimal Debian, made once. Steps of a build cannot reach the network here, so the wheels lie ready.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mcp-gateway/image
work=$(mktemp -d)
image=localhost/mcp-gateway:test
base=localhost/mcp-gateway-base
export BUILDAH_ISOLATION=chroot
buildah=(buildah --storage-driver vfs --root "$cache/storage" --runroot "$work/run")
running=()
container=
# A process and what it has started; ended from the leaves, because a parent that ends first leaves its children behind.
end() {
    local child
    for child in $(ps -o pid= --ppid "$1"); do end "$child"; done
    kill "$1" 2>/dev/null || true
}
finish() {
    for process in "${running[@]}"; do end "$process" && wait "$process" || true; done
    [ -z "$container" ] || "${buildah[@]}" rm "$container" >/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
mkdir -p "$cache"

if [ ! -e "$cache/debian/complete" ]; then
    rm -rf "$cache/debian"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
        "$(. /etc/os-release && echo "${DEBIAN_SUITE:-$VERSION_CODENAME}")" "$cache/debian" ${DEBIAN_MIRROR:-}
    rm -rf "$cache/debian/var/cache/apt" "$cache/debian/var/lib/apt/lists"
    touch "$cache/debian/complete"
fi
version=$(chroot "$cache/debian" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "${buildah[@]}" inspect --type image "$base" >/dev/null 2>&1; then
    printf 'FROM scratch\nADD . /\n' >"$work/Base"
    "${buildah[@]}" bud -q -t "$base" -f "$work/Base" "$cache/debian"
fi

# Only wheels, and for the base's Python: what has none would need a compiler.
"$python" -m pip download --quiet --only-binary=:all: --python-version "$version" --dest "$cache/wheels" \
    hatchling $("$python" tests/image/requirements.py)
"${buildah[@]}" bud --build-arg "BASE=$base" --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheelhouse \
    --volume "$cache/wheels:/wheelhouse:ro" -t "$image" .

# As the Deployments run it: the user, environment and entry point of the image, and nothing that can be written.
config() { "${buildah[@]}" inspect --type image --format "$1" "$image"; }
user=$(config '{{.OCIv1.Config.User}}')
mapfile -t environment < <(config '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' | sed '/^$/d')
entry=$(config '{{index .OCIv1.Config.Entrypoint 0}}')
[ "$user" = 65532:65532 ]
container=$("${buildah[@]}" from "$image")
root=$("${buildah[@]}" mount "$container")
run() {
    unshare --mount sh -c 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && mount -t proc proc "$0/proc" &&
        user=$1 && shift && exec chroot --userspec="$user" "$0" "$@"' \
        "$root" "$user" /usr/bin/env -i "${environment[@]}" "$@"
}

if run sh -c 'command -v gcc || command -v cc || command -v make'; then
    echo "the image has a compiler"
    exit 1
fi
[ "$(run id -u)" = 65532 ]
if run sh -c 'touch /opt/x || touch /tmp/x' 2>/dev/null; then
    echo "its root file system can be written"
    exit 1
fi
run "$entry" --version
run "$entry" controller --help >/dev/null

mkdir -p "$root/etc/mcp-gateway"
cat >"$root/etc/mcp-gateway/gateway.yaml" <<'CONFIG'
servers:
  - name: sample
    prefix: sample_
    url: http://127.0.0.1:19099/mcp
CONFIG
run python -m mcp_gateway.demo.http_server --bind 127.0.0.1:19099 >"$work/server.log" 2>&1 & running+=($!)
run "$entry" serve --config /etc/mcp-gateway/gateway.yaml --bind 127.0.0.1:18080 --admin-bind 127.0.0.1:19090 \
    >"$work/gateway.log" 2>&1 & running+=($!)
ask() {
    curl -sS --fail --retry 30 --retry-delay 1 --retry-connrefused "$@"
}
ask http://127.0.0.1:18080/healthz || { cat "$work/gateway.log"; exit 1; }
for attempt in $(seq 60); do
    ask http://127.0.0.1:18080/mcp -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
        -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/list' -d '{"jsonrpc": "2.0", "id": 1,
        "method": "tools/list", "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}}}}' >"$work/tools"
    ! grep -q '"sample_add"' "$work/tools" || break
    [ "$attempt" -lt 60 ] || { cat "$work/tools" "$work/gateway.log"; exit 1; }
    sleep 1
done
echo "the image serves /healthz and /mcp: $(grep -o '"name": *"sample_[a-z]*"' "$work/tools" | tr '\n' ' ')"
