/* getrandom(2). */
#include "common/base/random.h"

#include <errno.h>
#include <sys/random.h>

#include "common/base/attr.h"

void random_bytes(void *out, size_t len)
{
	char *p = out;

	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		require(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

void random_id(char *text, size_t len)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

	random_bytes(text, len);
	for (size_t i = 0; i < len; i++)
		text[i] = alphabet[text[i] & 31];
	text[len] = '\0';
}
