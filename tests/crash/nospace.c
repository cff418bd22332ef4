/*
 * LD_PRELOAD, tests alone: while the file that MAILTIER_NOSPACE names is there, nothing can be written to a store's data file: ENOSPC, as
 * of a disk that is full. A real full disk lets small writes pass, since LMDB uses its free pages again.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_full(int fd)
{
	const char *flag = getenv("MAILTIER_NOSPACE");
	char link[64], path[4096];
	ssize_t n;

	if (!flag || access(flag, F_OK) < 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	return n > 9 && memcmp(path + n - 9, "/data.mdb", 9) == 0;
}

#define WRITER(name, parameters, arguments)                                                                  \
	ssize_t name parameters                                                                              \
	{                                                                                                    \
		static ssize_t(*real) parameters;                                                            \
                                                                                                             \
		if (!real)                                                                                   \
			*(void **)&real = dlsym(RTLD_NEXT, #name);                                           \
		if (is_full(fd)) {                                                                           \
			errno = ENOSPC;                                                                      \
			return -1;                                                                           \
		}                                                                                            \
		return real arguments;                                                                       \
	}

WRITER(write, (int fd, const void *data, size_t size), (fd, data, size))
WRITER(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
WRITER(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
WRITER(writev, (int fd, const struct iovec *list, int count), (fd, list, count))
WRITER(pwritev, (int fd, const struct iovec *list, int count, off_t at), (fd, list, count, at))
WRITER(pwritev64, (int fd, const struct iovec *list, int count, off64_t at), (fd, list, count, at))
