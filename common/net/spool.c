/*
 * Bytes up to the mark in one buffer; beyond it all of it is in an unlinked file, and the buffer holds what
 * has not been written yet.
 */
#include "common/net/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"

#define WRITE_BEHIND (64 * 1024)

struct spool {
	struct buf memory; /* content from `written` on */
	size_t memory_most;
	uint64_t size_most;
	uint64_t written; /* bytes in the file */
	int fd;           /* -1: all is in memory */
	int error;
};

static char *directory;

void spool_set_directory(const char *path)
{
	free(directory);
	directory = xstrdup(path);
}

static const char *spool_directory(void)
{
	const char *from_environment = getenv("TMPDIR");

	if (directory)
		return directory;
	return from_environment && *from_environment ? from_environment : "/tmp";
}

struct spool *spool_new(size_t memory_most, uint64_t size_most)
{
	struct spool *spool = xcalloc(1, sizeof(*spool));

	spool->memory_most = memory_most;
	spool->size_most = size_most;
	spool->fd = -1;
	return spool;
}

void spool_free(struct spool **spool)
{
	if (!*spool)
		return;
	if ((*spool)->fd >= 0)
		close((*spool)->fd);
	buf_deinit(&(*spool)->memory);
	free(*spool);
	*spool = NULL;
}

static int open_file(void)
{
	char path[4096];
	int fd = open(spool_directory(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd;
	/* A file system without nameless files. */
	if (snprintf(path, sizeof(path), "%s/mailtier-XXXXXX", spool_directory()) >= (int)sizeof(path))
		return -1;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

static int write_out(struct spool *spool)
{
	if (spool->fd < 0) {
		spool->fd = open_file();
		if (spool->fd < 0)
			return error_from_errno(errno) == ERR_FULL ? ERR_FULL : ERR_IO;
	}
	while (buf_len(&spool->memory)) {
		struct slice s = buf_view(&spool->memory);
		ssize_t n = pwrite(spool->fd, s.p, s.len, (off_t)spool->written);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_from_errno(errno) == ERR_FULL ? ERR_FULL : ERR_IO;
		buf_take(&spool->memory, (size_t)n);
		spool->written += (uint64_t)n;
	}
	return 0;
}

int spool_add(struct spool *spool, struct slice bytes)
{
	size_t most = spool->fd >= 0 ? WRITE_BEHIND : spool->memory_most;

	if (spool->error)
		return spool->error;
	if (spool->size_most && bytes.len > spool->size_most - spool_len(spool))
		return spool->error = ERR_TOO_BIG;
	buf_add_slice(&spool->memory, bytes);
	if (buf_len(&spool->memory) > most)
		spool->error = write_out(spool);
	return spool->error;
}

uint64_t spool_len(const struct spool *spool)
{
	return spool->written + buf_len(&spool->memory);
}

static ssize_t read_file(const struct spool *spool, uint64_t offset, void *out, size_t size)
{
	ssize_t n;

	if (size > spool->written - offset)
		size = (size_t)(spool->written - offset);
	do
		n = pread(spool->fd, out, size, (off_t)offset);
	while (n < 0 && errno == EINTR);
	return n > 0 ? n : ERR_IO; /* 0: somebody cut the file */
}

ssize_t spool_read(const struct spool *spool, uint64_t offset, void *out, size_t size)
{
	struct slice s;

	if (size == 0 || offset >= spool_len(spool))
		return 0;
	if (offset < spool->written)
		return read_file(spool, offset, out, size);
	s = slice_sub(buf_view(&spool->memory), (size_t)(offset - spool->written), size);
	memcpy(out, s.p, s.len);
	return (ssize_t)s.len;
}

struct slice spool_view(const struct spool *spool)
{
	if (spool->fd >= 0)
		return slice_of(NULL, 0);
	return buf_len(&spool->memory) ? buf_view(&spool->memory) : slice_of("", 0);
}
