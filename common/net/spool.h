/*
 * A spool: bytes of one message on their way, in memory up to a mark, then in an unlinked temporary file.
 * Written once from the front, then readable any number of times. Owned by one thread at a time; may be
 * handed to a worker.
 */
#pragma once

#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/base/slice.h"

struct spool;

/* Directory for the files, once at start; default /tmp (or TMPDIR). Copied. */
void spool_set_directory(const char *path);
/* memory_most: bytes kept in memory; size_most: ERR_TOO_BIG beyond, 0: none. */
struct spool *spool_new(size_t memory_most, uint64_t size_most);
void spool_free(struct spool **spool);
/* ERR_TOO_BIG, ERR_FULL (disk), ERR_IO: sticky, the spool takes nothing more. The file is written behind a 64
 * KiB buffer. */
MUST_CHECK int spool_add(struct spool *spool, struct slice bytes);
uint64_t spool_len(const struct spool *spool);
/* Reads at most size bytes from offset into out; returns how many, 0 at the end, or ERR_IO. */
MUST_CHECK ssize_t spool_read(const struct spool *spool, uint64_t offset, void *out, size_t size);
/* The whole content as a view if it is all in memory; p is NULL otherwise. */
struct slice spool_view(const struct spool *spool);
