/* Reads MAILTIER_FAULT; see fault.h. Empty in ordinary builds. */
#include "common/base/fault.h"

#ifdef MAILTIER_FAULTS
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/num.h"

static _Atomic unsigned passages;

static bool read_words(char *words, size_t size)
{
	const char *path = getenv("MAILTIER_FAULT_FILE");
	const char *fixed = getenv("MAILTIER_FAULT");
	FILE *f;
	bool ok;

	if (!path) {
		snprintf(words, size, "%s", fixed ? fixed : "");
		return fixed;
	}
	f = fopen(path, "re");
	if (!f)
		return false;
	ok = fgets(words, (int)size, f);
	fclose(f);
	return ok;
}

/* The k-th word of a:b:c:d, empty if there is none. */
static struct slice word(struct slice s, int k)
{
	for (; k > 0; k--) {
		ptrdiff_t colon = slice_find(s, ':');

		s = colon < 0 ? slice_of(NULL, 0) : slice_from(s, (size_t)colon + 1);
	}
	return slice_find(s, ':') < 0 ? s : slice_sub(s, 0, (size_t)slice_find(s, ':'));
}

void fault_point(const char *name)
{
	char text[256];
	struct slice words;
	uint32_t at = 1, ms = 100;

	if (!read_words(text, sizeof(text)))
		return;
	words = slice_trim(slice_str(text));
	if (!slice_is_str(word(words, 0), name))
		return;
	if (num_parse_u32(word(words, 2), &at) < 0)
		at = 1;
	if (++passages != at)
		return;
	if (slice_is_str(word(words, 1), "kill")) {
		kill(getpid(), SIGKILL);
		pause();
	}
	if (num_parse_u32(word(words, 3), &ms) < 0)
		ms = 100;
	nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}
#endif
