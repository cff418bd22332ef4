/*
 * A file of what is remembered over restarts: its whole text is written aside by a worker thread and renamed, some seconds after a change,
 * so that many changes cost one write and no loop waits for the disk. Own loop's thread.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/net/loop.h"

#define KEPT_FILE_MOST (32 * 1024 * 1024) /* octets that are read of one */
#define KEPT_FILE_DELAY_MS 5000

struct kept_file;
/* Appends all that is to be remembered. */
typedef void kept_file_fn(void *arg, struct buf *out);

/* name: of its thread's metrics. */
struct kept_file *kept_file_new(
	struct loop *loop, const char *name, const char *path, kept_file_fn *fn, void *arg);
/* Appends what is there; nothing if there is nothing. Blocks: at start. */
void kept_file_read(const struct kept_file *k, struct buf *out);
/* It is to be written. */
void kept_file_changed(struct kept_file *k);
/* On the loop, which turns once more: what is being written is waited for. */
void kept_file_end(struct kept_file *k);
/* After that, also when the loop has ended; writes what is not written yet, while `arg` still lives. Sets NULL, accepts NULL. */
void kept_file_free(struct kept_file **k);
