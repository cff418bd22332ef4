/* A short list; it is empty but during the first second of a program that takes over. */
#include "common/net/inherit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/mem.h"

struct inherited {
	struct addr addr;
	int fd;
};

static struct inherited *all;
static size_t count;

static bool is_same(const struct addr *a, const struct addr *b)
{
	if (a->ss.ss_family != b->ss.ss_family)
		return false;
	if (a->ss.ss_family == AF_UNIX)
		return strcmp(((const struct sockaddr_un *)&a->ss)->sun_path,
			       ((const struct sockaddr_un *)&b->ss)->sun_path) == 0;
	return addr_port(a) == addr_port(b) && addr_is_equal_host(a, b);
}

int inherit_add_take(int fd)
{
	struct inherited one = {.fd = fd, .addr.len = sizeof(one.addr.ss)};
	int listens = 0;
	socklen_t len = sizeof(listens);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) != 0 || !listens ||
		getsockname(fd, (struct sockaddr *)&one.addr.ss, &one.addr.len) != 0) {
		close(fd);
		return ERR_SYNTAX;
	}
	all = xreallocarray(all, count + 1, sizeof(*all));
	all[count++] = one;
	return 0;
}

unsigned inherit_count(const struct addr *addr)
{
	unsigned n = 0;

	for (size_t i = 0; i < count; i++)
		n += is_same(&all[i].addr, addr);
	return n;
}

int inherit_take_give(const struct addr *addr)
{
	for (size_t i = 0; i < count; i++) {
		int fd = all[i].fd;

		if (!is_same(&all[i].addr, addr))
			continue;
		count--;
		memmove(&all[i], &all[i + 1], (count - i) * sizeof(*all));
		return fd;
	}
	return -1;
}

const struct addr *inherit_rest(size_t i)
{
	return i < count ? &all[i].addr : NULL;
}

void inherit_close(void)
{
	for (size_t i = 0; i < count; i++)
		close(all[i].fd);
	free(all);
	all = NULL;
	count = 0;
}
