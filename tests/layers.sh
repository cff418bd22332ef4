#!/bin/sh
# Holds every #include against the table of rooms (make print-rooms) and against the list of foreign headers
# that only certain rooms may see. Prints file:line for each breach.
cd "$(dirname "$0")/.." || exit 1
bad=0
found=$(mktemp)
trap 'rm -f "$found"' EXIT
sources() { git ls-files --cached --others --exclude-standard '*.c' '*.h' | grep -v '^tests/'; }

# The table first, then each file by itself, then each of its includes as "file:line:#include ...".
{
	make -s --no-print-directory print-rooms
	sources | sed 's/^/file /'
	sources | xargs grep -nE '^#include "' /dev/null
} | awk '
	function room_of(path) { # the longest room that holds this file
		while (sub("/[^/]*$", "", path))
			if (path in uses)
				return path
		return ""
	}
	/^[a-z_\/]+: / || /^[a-z_\/]+:$/ {
		name = $1
		sub(":$", "", name)
		$1 = ""
		uses[name] = $0 " "
		next
	}
	$1 == "file" {
		exists[$2] = 1
		if (room_of($2) == "")
			print "layers: " $2 " stands in no room"
		next
	}
	{
		split($0, part, ":")
		match($0, /"[^"]*"/)
		include = substr($0, RSTART + 1, RLENGTH - 2)
		from = room_of(part[1])
		to = room_of(include)
		place = "layers: " part[1] ":" part[2] ": "
		if (to == "" || !(include in exists))
			print place "\"" include "\" is not written from the root"
		else if (to != from && index(uses[from], " " to " ") == 0)
			print place from " may not use " to
		else if (from == "proxy" && to == "mapping" && include != "mapping/usermap.h")
			print place "of mapping the proxy sees usermap.h alone"
	}' >"$found"
[ -s "$found" ] && { cat "$found"; bad=1; }

foreign() { # header pattern, the places that may see it
	pattern=$1
	shift
	git ls-files --cached --others --exclude-standard '*.c' '*.h' | grep -v '^tests/' |
		xargs grep -nE "^#include <$pattern" /dev/null | while IFS= read -r hit; do
		ok=
		for place in "$@"; do case "$hit" in "$place"/*) ok=1 ;; esac; done
		[ -n "$ok" ] || echo "layers: $hit: only $* may see this header"
	done >"$found"
	[ -s "$found" ] && { cat "$found"; bad=1; }
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
foreign 'pcre2\.h' mapping common/front
foreign 'maxminddb\.h' common/front
foreign 'jansson\.h' common/control backend/session
foreign '(ldap|openldap|lber)\.h' common/directory
foreign '(gssapi|krb5)' common/directory common/auth
foreign 'spf2/' common/spf
foreign 'seccomp\.h' common/spf
foreign 'xxhash\.h' common/base
foreign '(idn2|unicase|uninorm|unistr|unictype|uniconv|unitypes)\.h' common/proto
exit $bad
