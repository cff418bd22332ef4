#!/bin/sh
# Holds every #include against the table of rooms (make print-rooms) and against the list of foreign headers
# that only certain rooms may see. Prints file:line for each breach.
cd "$(dirname "$0")/.." || exit 1
bad=0
breach() { echo "layers: $1"; bad=1; }
rooms=$(make -s --no-print-directory print-rooms)

room_of() { # the longest room that holds this file
	d=$(dirname "$1")
	while [ "$d" != . ]; do
		echo "$rooms" | grep -q "^$d:" && { echo "$d"; return; }
		d=$(dirname "$d")
	done
}

for f in $(git ls-files --cached --others --exclude-standard '*.c' '*.h' | grep -v '^tests/'); do
	room=$(room_of "$f")
	[ -n "$room" ] || { breach "$f stands in no room"; continue; }
	allowed=$(echo "$rooms" | sed -n "s|^$room: *||p")
	grep -n '^#include "' "$f" | while IFS= read -r line; do
		inc=$(echo "$line" | sed 's/.*"\(.*\)".*/\1/')
		to=$(room_of "$inc")
		[ -f "$inc" ] && [ -n "$to" ] || { echo "$f:${line%%:*}: \"$inc\" is not written from the root"; continue; }
		[ "$to" = "$room" ] && continue
		case " $allowed " in *" $to "*) ;; *) echo "$f:${line%%:*}: $room may not use $to" ;; esac
		[ "$room" = proxy ] && [ "$to" = mapping ] && [ "$inc" != mapping/usermap.h ] &&
			echo "$f:${line%%:*}: of mapping the proxy sees usermap.h alone"
	done > /tmp/layers.$$
	[ -s /tmp/layers.$$ ] && { sed 's/^/layers: /' /tmp/layers.$$; bad=1; }
	rm -f /tmp/layers.$$
done

foreign() { # header pattern, the places that may see it
	pattern=$1
	shift
	git ls-files --cached --others --exclude-standard '*.c' '*.h' | grep -v '^tests/' |
		xargs grep -nE "^#include <$pattern" /dev/null | while IFS= read -r hit; do
		ok=
		for place in "$@"; do case "$hit" in "$place"/*) ok=1 ;; esac; done
		[ -n "$ok" ] || echo "layers: $hit: only $* may see this header"
	done > /tmp/layers.$$
	[ -s /tmp/layers.$$ ] && { cat /tmp/layers.$$; bad=1; }
	rm -f /tmp/layers.$$
}
foreign 'uv\.h' common/net
foreign 'openssl/ssl' common/net
foreign 'unbound\.h' common/net
foreign 'zlib\.h' common/net
foreign 'openssl/' common/net common/crypto
foreign 'lmdb\.h' backend/store
foreign 'zstd\.h' backend/store
foreign 'confuse\.h' common/conf
foreign 'sasl/' common/auth
foreign '(crypt|argon2)\.h' common/auth
foreign 'pcre2\.h' mapping
foreign 'jansson\.h' common/control backend/session
foreign 'ldap\.h' common/directory
foreign 'xxhash\.h' common/base
foreign '(idn2|unicase|uninorm|unistr|unictype|uniconv|unitypes)\.h' common/proto
exit $bad
