# For tests/check and tests/all: runs named parts, adds up what each says in its last line "N passed, N failed, N skipped", and says the
# sum at the end. A part without such a line counts as one test, by its exit status. Output is shown whole when a part fails.
passed=0 failed=0 skipped=0
logs=build/test-logs
mkdir -p "$logs"

add_up() { # log file, exit status
	local line
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$1" | tail -n 1)
	if [ -n "$line" ]; then
		set -- "$2" $(echo "$line" | tr -d 'a-z,')
		passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
		[ "$1" -eq 0 ] || [ "$3" -gt 0 ] || failed=$((failed + 1))
	elif [ "$2" -eq 0 ]; then
		passed=$((passed + 1)) line="passed"
	else
		failed=$((failed + 1)) line="FAILED"
	fi
	said=$line
}

part() { # name, command...: quiet unless it fails
	local name=$1 log code begin=$SECONDS
	shift
	log=$logs/${name//[ \/]/-}.log
	"$@" >"$log" 2>&1
	code=$?
	add_up "$log" $code
	echo "$name: $said ($((SECONDS - begin)) s)"
	[ $code -ne 0 ] || grep -E '^ *skipped ' "$log"
	[ $code -eq 0 ] || { sed 's/^/    /' "$log" | tail -n 200; }
}

loud() { # the same, showing its output while it runs
	local name=$1 log code begin=$SECONDS
	shift
	log=$logs/${name//[ \/]/-}.log
	echo "$name:"
	"$@" 2>&1 | tee "$log" | sed 's/^/    /'
	code=${PIPESTATUS[0]}
	add_up "$log" "$code"
	echo "$name: $said ($((SECONDS - begin)) s)"
}

sum() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed -eq 0 ]
}
