// Modules in which other projects keep the definitions of their kinds, for tests; unpacked by `cargo xtask`.
module muster.dev/tools/crds

go 1.26.0

require (
	github.com/kyverno/kyverno v1.19.1
	istio.io/api v1.32.0
)
