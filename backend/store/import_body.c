#include "backend/store/import_body.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend/store/db.h"
#include "common/base/mem.h"

void import_body_init(
	struct import_body *b, struct store *store, unsigned slot, store_write_fn *write, void *write_arg)
{
	*b = (struct import_body){
		.store = store, .slot = slot, .write = write, .write_arg = write_arg, .fd = -1};
	b->press = store_press_new();
}

static void forget(struct import_body *b)
{
	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
	b->size = b->want = 0;
	buf_clear(&b->memory);
}

void import_body_deinit(struct import_body *b)
{
	forget(b);
	buf_deinit(&b->memory);
	store_press_free(&b->press);
}

int import_body_write(struct import_body *b, int (*fn)(struct store_txn *txn, void *arg), void *arg)
{
	struct store_txn *txn;
	int err;

	if (b->write)
		return b->write(b->write_arg, b->slot, fn, arg);
	err = store_begin_write(b->store, b->slot, &txn);
	if (err)
		return err;
	err = fn(txn, arg);
	if (!err)
		return store_commit(&txn);
	store_abort(&txn);
	return err;
}

/* ---- gathering ---- */

void import_body_begin(struct import_body *b, uint64_t size)
{
	forget(b);
	b->want = size;
}

static int open_file(struct import_body *b)
{
	b->fd = open(b->store->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (b->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		char *path = NULL;

		if (asprintf(&path, "%s/importXXXXXX", b->store->dir) < 0)
			return ERR_NOT_NOW;
		b->fd = mkostemp(path, O_CLOEXEC);
		if (b->fd >= 0)
			unlink(path);
		free(path);
	}
	return b->fd < 0 ? error_from_errno(errno) : 0;
}

static int write_file(struct import_body *b, struct slice bytes)
{
	while (bytes.len) {
		ssize_t n = write(b->fd, bytes.p, bytes.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? error_from_errno(errno) : ERR_IO;
		bytes = slice_from(bytes, (size_t)n);
	}
	return 0;
}

int import_body_add(struct import_body *b, struct slice bytes)
{
	int err = 0;

	if (bytes.len > b->want - b->size)
		return ERR_CORRUPT;
	b->size += bytes.len;
	if (b->fd < 0 && b->size <= IMPORT_MEMORY) {
		buf_add_slice(&b->memory, bytes);
		return 0;
	}
	if (b->fd < 0) {
		err = open_file(b);
		if (!err)
			err = write_file(b, buf_view(&b->memory));
		buf_clear(&b->memory);
	}
	return err ? err : write_file(b, bytes);
}

static ssize_t read_file(void *arg, uint64_t offset, void *out, size_t size)
{
	struct import_body *b = arg;
	ssize_t n;

	do
		n = pread(b->fd, out, size, (off_t)offset);
	while (n < 0 && errno == EINTR);
	return n < 0 ? error_from_errno(errno) : n;
}

/* ---- drafts ---- */

static int write_part(struct store_txn *txn, void *arg)
{
	return store_draft_write(txn, arg);
}

static int drop(struct store_txn *txn, void *arg)
{
	return store_draft_drop(txn, arg);
}

void import_body_drop(struct import_body *b, struct store_draft **draft)
{
	if (*draft && store_draft_is_written(*draft))
		(void)!import_body_write(b, drop, *draft);
	store_draft_free(draft);
}

int import_body_draft_of(
	struct import_body *b, const struct store_source *source, struct store_draft **draft_out)
{
	struct store_draft *draft = NULL;
	bool done = false;
	int err = store_draft_new(source, &draft);

	while (!err && !done) {
		err = store_draft_fill(draft, b->press, &done);
		if (err || done)
			break;
		err = import_body_write(b, write_part, draft);
		if (!err)
			store_draft_committed(draft);
	}
	if (err)
		import_body_drop(b, &draft);
	*draft_out = draft;
	return err;
}

int import_body_draft(struct import_body *b, struct store_draft **draft_out)
{
	struct store_source source = {.memory = buf_view(&b->memory), .size = b->size};
	int err;

	if (b->fd >= 0)
		source = (struct store_source){.read = read_file, .arg = b, .size = b->size};
	else if (!source.memory.p)
		source.memory = SLICE_LIT("");
	err = import_body_draft_of(b, &source, draft_out);
	forget(b);
	return err;
}
