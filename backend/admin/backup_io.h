/*
 * What exports, imports and backups share in the running program: the threads that they block, files and pipes with deadlines, the
 * store's writers waited for, mailboxes held while they are read. One transfer is one job on one of these threads.
 */
#pragma once

#include <stdatomic.h>

#include "backend/admin/admin.h"
#include "backend/store/store_export.h"
#include "backend/store/store_import.h"

/* Threads, and jobs that may wait for one. */
#define BACKUP_THREADS 4
#define BACKUP_WAITING_MOST 16
/* A pipe that takes or gives nothing for so long is given up. */
#define BACKUP_STALL_MS 600000

struct backups {
	struct admin *admin;
	struct work_pool *pool;
	_Atomic bool is_ending;
	struct metric *m_running, *m_bytes, *m_messages;
};

struct backups *backups_new(struct admin *admin, struct buf *why);
/* Running transfers end at their next step, as if they had failed. While loops and writers still run. */
void backups_end(struct backups *backups);
/* After the loop has turned once more. Accepts NULL, sets NULL. */
void backups_free(struct backups **backups);

/* ---- on a transfer's thread ---- */

struct backup_io {
	struct backups *backups;
	unsigned slot; /* of what it holds */
	struct store_view **views;
	size_t view_count, view_room;
	int fd;
};
void backup_io_init(struct backup_io *io, struct backups *backups, int fd_take);
/* Lets go of the mailboxes, closes the descriptor. */
void backup_io_deinit(struct backup_io *io);
/* store_export_options.hold, in io->slot. */
void backup_io_hold(void *io, uint32_t mailbox);
void backup_io_release(struct backup_io *io);
bool backup_io_is_cancelled(void *io);
/* A store_write_fn: the job waits its turn with all others at the slot's writer. */
MUST_CHECK int backup_io_store(
	void *io, unsigned slot, int (*fn)(struct store_txn *txn, void *fn_arg), void *fn_arg);
/* stream_writer.write and stream_reader.read. ERR_CLOSED: the pipe's reader has gone. ERR_TIMEOUT, ERR_FULL, ERR_IO, ERR_CANCELLED. */
MUST_CHECK int backup_io_write(void *io, struct slice bytes);
MUST_CHECK ssize_t backup_io_read(void *io, void *out, size_t size);
/* What was written is on disk, if it is a file. */
MUST_CHECK int backup_io_sync(struct backup_io *io);
