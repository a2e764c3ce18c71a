# Ends well when each named cluster is Live.
set -eu
clusters=$(muster get clusters --no-headers)
for name in "$@"; do
    echo "$clusters" | grep -Eq "^$name +Live " || { echo "$name is not Live:" && echo "$clusters" && exit 1; }
done
