/*
 * Preloaded into a program (tests only): writes down, in order, what the program does to every file named
 * data.mdb, and what it says to have acknowledged (writes to a file named acked). From this the power-loss
 * images are made.
 *
 *	event   kind u8 | offset u64 | length u32 | bytes
 *	        W write, D write that is synced itself, S sync, A acknowledged
 *
 * MAILTIER_RECORD names the file.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 1024

enum watched {
	NOT_WATCHED,
	WATCH_DATA,
	WATCH_DATA_SYNC,
	WATCH_ACKED
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char watched[FDS];
static int record_fd = -1;

#define REAL(name)                                                                                           \
	static __typeof__(name) *real;                                                                       \
	if (!real)                                                                                           \
	real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void put(const void *p, size_t len)
{
	const char *at = p;
	static ssize_t (*real)(int, const void *, size_t);

	if (!real)
		real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
	while (len) {
		ssize_t n = real(record_fd, at, len);

		if (n < 0)
			abort();
		at += n;
		len -= (size_t)n;
	}
}

/* The lock is held: the order in the file is the order of the calls. */
static void event(char kind, uint64_t offset, const void *p, size_t len)
{
	char head[13];
	uint32_t short_len = (uint32_t)len;

	if (record_fd < 0) {
		const char *path = getenv("MAILTIER_RECORD");

		record_fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
		if (record_fd < 0)
			abort();
	}
	head[0] = kind;
	memcpy(head + 1, &offset, 8);
	memcpy(head + 9, &short_len, 4);
	put(head, sizeof(head));
	put(p, len);
}

static bool ends_with(const char *s, const char *end)
{
	size_t a = strlen(s), b = strlen(end);

	return a >= b && strcmp(s + a - b, end) == 0;
}

static int remember(int fd, const char *path, int flags)
{
	if (fd < 0 || fd >= FDS)
		return fd;
	watched[fd] = NOT_WATCHED;
	if (ends_with(path, "/data.mdb"))
		watched[fd] = flags & O_DSYNC ? WATCH_DATA_SYNC : WATCH_DATA;
	else if (ends_with(path, "/acked"))
		watched[fd] = WATCH_ACKED;
	return fd;
}

static int kind_of(int fd)
{
	return fd >= 0 && fd < FDS ? watched[fd] : NOT_WATCHED;
}

int open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	REAL(open);
	va_start(args, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(args, mode_t);
	va_end(args);
	return remember(real(path, flags, mode), path, flags);
}

int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	REAL(open64);
	va_start(args, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(args, mode_t);
	va_end(args);
	return remember(real(path, flags, mode), path, flags);
}

int close(int fd)
{
	REAL(close);
	if (kind_of(fd))
		watched[fd] = NOT_WATCHED;
	return real(fd);
}

static char write_kind(int fd)
{
	return kind_of(fd) == WATCH_DATA_SYNC ? 'D' : 'W';
}

ssize_t pwrite(int fd, const void *p, size_t len, off_t at)
{
	ssize_t n;

	REAL(pwrite);
	if (!kind_of(fd))
		return real(fd, p, len, at);
	pthread_mutex_lock(&lock);
	n = real(fd, p, len, at);
	if (n > 0)
		event(write_kind(fd), (uint64_t)at, p, (size_t)n);
	pthread_mutex_unlock(&lock);
	return n;
}

ssize_t pwrite64(int fd, const void *p, size_t len, off64_t at)
{
	return pwrite(fd, p, len, (off_t)at);
}

ssize_t write(int fd, const void *p, size_t len)
{
	off_t at;
	ssize_t n;

	REAL(write);
	if (!kind_of(fd))
		return real(fd, p, len);
	pthread_mutex_lock(&lock);
	at = lseek(fd, 0, SEEK_CUR);
	n = real(fd, p, len);
	if (n > 0)
		event(kind_of(fd) == WATCH_ACKED ? 'A' : write_kind(fd), (uint64_t)at, p, (size_t)n);
	pthread_mutex_unlock(&lock);
	return n;
}

/* Takes a written vector apart, starting at `at`. */
static void events(int fd, const struct iovec *v, int count, off_t at, ssize_t n)
{
	for (int i = 0; i < count && n > 0; i++) {
		size_t len = (size_t)n < v[i].iov_len ? (size_t)n : v[i].iov_len;

		event(write_kind(fd), (uint64_t)at, v[i].iov_base, len);
		at += (off_t)len;
		n -= (ssize_t)len;
	}
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
	off_t at;
	ssize_t n;

	REAL(writev);
	if (!kind_of(fd))
		return real(fd, v, count);
	pthread_mutex_lock(&lock);
	at = lseek(fd, 0, SEEK_CUR);
	n = real(fd, v, count);
	events(fd, v, count, at, n);
	pthread_mutex_unlock(&lock);
	return n;
}

ssize_t pwritev(int fd, const struct iovec *v, int count, off_t at)
{
	ssize_t n;

	REAL(pwritev);
	if (!kind_of(fd))
		return real(fd, v, count, at);
	pthread_mutex_lock(&lock);
	n = real(fd, v, count, at);
	events(fd, v, count, at, n);
	pthread_mutex_unlock(&lock);
	return n;
}

static void synced(int fd)
{
	if (kind_of(fd) != WATCH_DATA && kind_of(fd) != WATCH_DATA_SYNC)
		return;
	pthread_mutex_lock(&lock);
	event('S', 0, NULL, 0);
	pthread_mutex_unlock(&lock);
}

int fdatasync(int fd)
{
	int rc;

	REAL(fdatasync);
	rc = real(fd);
	if (rc == 0)
		synced(fd);
	return rc;
}

int fsync(int fd)
{
	int rc;

	REAL(fsync);
	rc = real(fd);
	if (rc == 0)
		synced(fd);
	return rc;
}

/* A store that syncs through its map would be one whose writes we do not see. */
int msync(void *p, size_t len, int flags)
{
	(void)p;
	(void)len;
	(void)flags;
	abort();
}
