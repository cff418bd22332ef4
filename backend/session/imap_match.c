/*
 * The last "*" and the last "%" behind it are remembered; when something does not fit, "%" takes one more
 * character, and where it may not, "*" does. Earlier wildcards need never be tried again: what stands between
 * two wildcards is best matched as early as it can be.
 */
#include "backend/session/imap_match.h"

#include <sys/types.h>

#define NONE ((size_t)-1)

static size_t nocase_length(struct slice name)
{
	bool is_inbox = slice_has_prefix(name, "INBOX") && (name.len == 5 || name.p[5] == '/');

	return is_inbox ? 5 : 0;
}

bool imap_match(struct slice pattern, struct slice name)
{
	size_t nocase = nocase_length(name);
	size_t p = 0, n = 0;
	size_t star = NONE, star_n = 0, percent = NONE, percent_n = 0;

	for (;;) {
		if (p < pattern.len && pattern.p[p] == '*') {
			star = ++p;
			star_n = n;
			percent = NONE;
			continue;
		}
		if (p < pattern.len && pattern.p[p] == '%') {
			percent = ++p;
			percent_n = n;
			continue;
		}
		if (p == pattern.len && n == name.len)
			return true;
		if (p < pattern.len && n < name.len &&
			(pattern.p[p] == name.p[n] ||
				(n < nocase && ascii_upper(pattern.p[p]) == name.p[n]))) {
			p++;
			n++;
			continue;
		}
		if (percent != NONE && percent_n < name.len && name.p[percent_n] != '/') {
			p = percent;
			n = ++percent_n;
		} else if (star != NONE && star_n < name.len) {
			p = star;
			n = ++star_n;
			percent = NONE;
		} else {
			return false;
		}
	}
}
