#!/bin/sh
# Says in one list what Muster needs and this machine lacks, with the command that installs it.
# It is a shell script because it must also speak where Rust or a linker is what is missing.
# `doctor.sh tests` asks too for what only the tests need. Exit status: 0 nothing is missing, 1 something is.

missing=""
packages=""

need() { # need PROGRAM WHAT-FOR PACKAGE-APT PACKAGE-DNF PACKAGE-APK PACKAGE-BREW
    command -v "$1" >/dev/null 2>&1 && return
    missing="$missing  $1: $2
"
    case $manager in
    apt) packages="$packages $3" ;;
    dnf) packages="$packages $4" ;;
    apk) packages="$packages $5" ;;
    brew) packages="$packages $6" ;;
    esac
}

if command -v apt-get >/dev/null 2>&1; then manager=apt install="apt-get install -y"
elif command -v dnf >/dev/null 2>&1; then manager=dnf install="dnf install -y"
elif command -v apk >/dev/null 2>&1; then manager=apk install="apk add"
elif command -v brew >/dev/null 2>&1; then manager=brew install="brew install"
else manager=none install="install with your package manager:"
fi
[ "$manager" != brew ] && [ "$manager" != none ] && [ "$(id -u)" != 0 ] && install="sudo $install"

need cc "C compiler (librdkafka, ring, the linker of Rust)" build-essential gcc build-base gcc
need c++ "C++ compiler (librdkafka)" build-essential gcc-c++ build-base gcc
need make "make (librdkafka)" build-essential make build-base make
need bash "bash (librdkafka's configure)" bash bash bash bash
need perl "Perl (OpenSSL, which librdkafka speaks TLS with)" perl perl perl perl
need git "git (releases come from git repositories)" git git git git
if [ "$1" = tests ]; then
    need java "Java 17 or newer (Apache Kafka)" openjdk-17-jre-headless java-17-openjdk-headless openjdk17-jre-headless openjdk@17
    need python3 "Python 3 with pip (a client of the API and of Kafka in another language)" python3-pip python3-pip py3-pip python
    need dpkg-deb "dpkg and apt (Prometheus and an ssh server are Debian's packages, unpacked)" apt apt dpkg dpkg
    need ssh-keygen "OpenSSH's client (releases come over ssh)" openssh-client openssh-clients openssh-client openssh
    need mvn "Maven (fetches Apache Kafka)" maven maven maven maven
fi

rust="" go=""
command -v cargo >/dev/null 2>&1 || {
    missing="$missing  cargo: Rust; the version is in rust-toolchain.toml and rustup fetches it
"
    rust="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
}
# kustomize v5.8.1 asks for Go 1.24, Kubernetes 1.37 for 1.26.
go_least=24 go_for="kustomize is built once with it"
[ "$1" = tests ] && go_least=26 go_for="kustomize, Kubernetes, etcd and kwok are built once with it"
go_minor=$(go version 2>/dev/null | sed -n 's/.*go1\.\([0-9]*\).*/\1/p')
if [ -z "$go_minor" ] || [ "$go_minor" -lt "$go_least" ]; then
    missing="$missing  go: Go 1.$go_least or newer ($go_for)${go_minor:+; this is 1.$go_minor}
"
    case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) go_archive=go1.26.0.linux-amd64.tar.gz ;;
    Linux-aarch64) go_archive=go1.26.0.linux-arm64.tar.gz ;;
    *) go_archive="" ;;
    esac
    if [ -n "$go_archive" ]; then
        go="curl -sSfL https://go.dev/dl/$go_archive | tar -xz -C \"\$HOME\" && export PATH=\"\$HOME/go/bin:\$PATH\""
    else
        go="install Go from https://go.dev/dl/"
    fi
fi

[ -z "$missing" ] && exit 0
{
    echo "This machine lacks:"
    printf '%s' "$missing"
    echo
    echo "To install it:"
    [ -n "$packages" ] && echo "  $install $(echo "$packages" | tr ' ' '\n' | sort -u | tr '\n' ' ')"
    [ -n "$rust" ] && echo "  $rust"
    [ -n "$go" ] && echo "  $go"
} >&2
exit 1
