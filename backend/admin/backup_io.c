#include "backend/admin/backup_io.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"

/* How often a transfer that waits looks whether it should end. */
#define POLL_MS 200
/* A blocking pipe takes so much at once when poll() says that it takes something (POSIX: PIPE_BUF). */
#define PIPE_PIECE 4096

struct backups *backups_new(struct admin *admin, struct buf *why)
{
	struct backups *s = xcalloc(1, sizeof(*s));

	s->admin = admin;
	if (work_pool_new("transfer", BACKUP_THREADS, BACKUP_WAITING_MOST, &s->pool)) {
		buf_add_str(why, "no threads for exports and backups");
		free(s);
		return NULL;
	}
	s->m_running = metrics_gauge(
		"mailtier_transfers_running", NULL, "Exports, imports, backups and restores that run now");
	s->m_bytes = metrics_counter(
		"mailtier_transfer_bytes", NULL, "Message bytes exported, imported, backed up or restored");
	s->m_messages = metrics_counter(
		"mailtier_transfer_messages", NULL, "Messages exported, imported, backed up or restored");
	return s;
}

void backups_end(struct backups *s)
{
	s->is_ending = true;
	work_pool_end(s->pool);
}

void backups_free(struct backups **backups)
{
	if (!*backups)
		return;
	work_pool_free(&(*backups)->pool);
	free(*backups);
	*backups = NULL;
}

void backup_io_init(struct backup_io *io, struct backups *backups, int fd_take)
{
	*io = (struct backup_io){.backups = backups, .fd = fd_take};
}

void backup_io_release(struct backup_io *io)
{
	for (size_t i = 0; i < io->view_count; i++)
		store_work_view_end(&io->views[i]);
	io->view_count = 0;
}

void backup_io_deinit(struct backup_io *io)
{
	backup_io_release(io);
	free(io->views);
	io->views = NULL;
	io->view_room = 0;
	if (io->fd >= 0)
		close(io->fd);
	io->fd = -1;
}

void backup_io_hold(void *arg, uint32_t mailbox)
{
	struct backup_io *io = arg;

	if (io->view_count == io->view_room) {
		io->view_room = io->view_room ? io->view_room * 2 : 64;
		io->views = xreallocarray(io->views, io->view_room, sizeof(struct store_view *));
	}
	io->views[io->view_count++] = store_work_view(io->backups->admin->work, io->slot, mailbox, 0);
}

bool backup_io_is_cancelled(void *arg)
{
	const struct backup_io *io = arg;

	return io->backups->is_ending;
}

/* ---- the store's writers ---- */

struct turn {
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool is_done;
	int err;
	int (*fn)(struct store_txn *txn, void *arg);
	void *arg;
};

static int turn_run(struct store_txn *txn, void *arg)
{
	struct turn *t = arg;

	return t->fn(txn, t->arg);
}

static void turn_done(void *arg, int err)
{
	struct turn *t = arg;

	pthread_mutex_lock(&t->lock);
	t->err = err;
	t->is_done = true;
	pthread_cond_signal(&t->done);
	pthread_mutex_unlock(&t->lock);
}

int backup_io_store(void *arg, unsigned slot, int (*fn)(struct store_txn *txn, void *fn_arg), void *fn_arg)
{
	struct backup_io *io = arg;
	struct turn t = {.fn = fn, .arg = fn_arg};
	const struct store_work_call call = {.run = turn_run, .done = turn_done, .arg = &t};

	pthread_mutex_init(&t.lock, NULL);
	pthread_cond_init(&t.done, NULL);
	store_work_write(io->backups->admin->work, slot, &call);
	pthread_mutex_lock(&t.lock);
	while (!t.is_done)
		pthread_cond_wait(&t.done, &t.lock); /* the writer answers every job */
	pthread_mutex_unlock(&t.lock);
	pthread_cond_destroy(&t.done);
	pthread_mutex_destroy(&t.lock);
	return t.err;
}

/* ---- files and pipes ---- */

/* Until the descriptor can be read or written. Files always can. */
static int wait_for(struct backup_io *io, short events)
{
	uint64_t until = clock_mono_ms() + BACKUP_STALL_MS;

	for (;;) {
		struct pollfd p = {.fd = io->fd, .events = events};
		int n;

		if (backup_io_is_cancelled(io))
			return ERR_CANCELLED;
		n = poll(&p, 1, POLL_MS);
		if (n > 0)
			return p.revents & POLLNVAL ? ERR_IO : 0;
		if (n < 0 && errno != EINTR)
			return error_from_errno(errno);
		if (clock_mono_ms() >= until)
			return ERR_TIMEOUT;
	}
}

int backup_io_write(void *arg, struct slice bytes)
{
	struct backup_io *io = arg;

	while (bytes.len) {
		int err = wait_for(io, POLLOUT);
		ssize_t n = err ? 0 : write(io->fd, bytes.p, bytes.len < PIPE_PIECE ? bytes.len : PIPE_PIECE);

		if (err)
			return err;
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return errno == EPIPE ? ERR_CLOSED : error_from_errno(errno);
		bytes = slice_from(bytes, (size_t)n);
	}
	return 0;
}

ssize_t backup_io_read(void *arg, void *out, size_t size)
{
	struct backup_io *io = arg;

	for (;;) {
		int err = wait_for(io, POLLIN);
		ssize_t n = err ? 0 : read(io->fd, out, size);

		if (err)
			return err;
		if (n >= 0)
			return n;
		if (errno != EINTR && errno != EAGAIN)
			return error_from_errno(errno);
	}
}

int backup_io_sync(struct backup_io *io)
{
	struct stat st;

	if (fstat(io->fd, &st) < 0)
		return error_from_errno(errno);
	return S_ISREG(st.st_mode) && fsync(io->fd) < 0 ? error_from_errno(errno) : 0;
}
