#include "backend/admin/backup_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/base/table.h"
#include "common/crypto/digest.h"

#define MARK "mailtier-backup"
#define MARK_TEXT "mailtier backup 1\n"
#define STATES_MAX 100000 /* of one account */
#define DOMAINS_MOST ((size_t)256 << 20)

struct backup_dir {
	int fd, mark;
	struct backup_pack *pack;
	uint64_t rate;
	uint64_t paced_ms, paced_bytes; /* since when, and what was written then */
};

/* ---- opening ---- */

static bool is_empty(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;
	bool empty = d != NULL;

	while (d && empty && (e = readdir(d)))
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	if (d)
		closedir(d);
	return empty;
}

static int make_mark(struct backup_dir *d)
{
	d->mark = openat(d->fd, MARK, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->mark < 0)
		return error_from_errno(errno);
	if (write(d->mark, MARK_TEXT, sizeof(MARK_TEXT) - 1) != sizeof(MARK_TEXT) - 1 || fsync(d->mark) < 0 ||
		fsync(d->fd) < 0)
		return errno ? error_from_errno(errno) : ERR_IO;
	return 0;
}

static int open_mark(struct backup_dir *d, const char *path, bool writes, struct buf *why)
{
	char text[sizeof(MARK_TEXT)] = {0};

	d->mark = openat(d->fd, MARK, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (d->mark < 0 && errno == ENOENT && writes && is_empty(d->fd))
		return make_mark(d);
	if (d->mark < 0 || pread(d->mark, text, sizeof(MARK_TEXT) - 1, 0) < 0 ||
		strcmp(text, MARK_TEXT) != 0) {
		buf_printf(why, "%s is no backup%s", path, writes ? ", and not empty" : "");
		return ERR_NOT_FOUND;
	}
	return 0;
}

int backup_dir_open(const char *path, bool writes, struct backup_dir **dir_out, struct buf *why)
{
	struct backup_dir *d = xcalloc(1, sizeof(*d));
	int err = 0;

	d->mark = -1;
	if (writes && mkdir(path, 0700) < 0 && errno != EEXIST)
		err = error_from_errno(errno);
	d->fd = err ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0) {
		err = error_from_errno(errno);
		buf_printf(why, "%s: %s", path, strerror(errno));
	}
	if (!err)
		err = open_mark(d, path, writes, why);
	if (!err && flock(d->mark, (writes ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0) {
		err = ERR_NOT_NOW;
		buf_printf(why, "%s is being worked on", path);
	}
	if (!err)
		err = backup_pack_open(d->fd, &d->pack);
	if (err && !buf_len(why))
		buf_printf(why, "%s: %s", path, error_text(err));
	if (err)
		backup_dir_close(&d);
	*dir_out = d;
	return err;
}

void backup_dir_close(struct backup_dir **dir)
{
	struct backup_dir *d = *dir;

	if (!d)
		return;
	backup_pack_close(&d->pack);
	if (d->mark >= 0)
		close(d->mark);
	if (d->fd >= 0)
		close(d->fd);
	free(d);
	*dir = NULL;
}

struct backup_pack *backup_dir_pack(struct backup_dir *d)
{
	return d->pack;
}

void backup_dir_set_rate(struct backup_dir *d, uint64_t rate)
{
	d->rate = rate;
}

/* ---- states ---- */

static void digest_of(struct slice address, char *out)
{
	uint8_t digest[32];

	digest_once(DIGEST_SHA256, address, digest);
	for (int i = 0; i < 16; i++)
		snprintf(out + (size_t)i * 2, 3, "%02x", digest[i]);
}

/* The folder of an account's states; of those of the domains, if digest is empty. */
static int open_account(struct backup_dir *d, const char *digest, bool makes, int *fd_out)
{
	char path[64] = "domains";

	if (digest[0])
		snprintf(path, sizeof(path), "accounts/%s", digest);
	if (makes && digest[0] && mkdirat(d->fd, "accounts", 0700) < 0 && errno != EEXIST)
		return error_from_errno(errno);
	if (makes && mkdirat(d->fd, path, 0700) < 0 && errno != EEXIST)
		return error_from_errno(errno);
	*fd_out = openat(d->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *fd_out < 0 ? error_from_errno(errno) : 0;
}

/* YYYYMMDDThhmmssZ-PRINT; 0: it is none of ours. */
static int64_t time_of(const char *name)
{
	struct tm tm = {0};
	const char *end = strlen(name) == 33 ? strptime(name, "%Y%m%dT%H%M%SZ-", &tm) : NULL;

	return end && strspn(end, "0123456789abcdef") == 16 ? timegm(&tm) : 0;
}

static int compare_states(const void *a, const void *b)
{
	return strcmp(((const struct backup_state *)a)->name, ((const struct backup_state *)b)->name);
}

/* Those of one account, oldest first; to be freed. */
static int list_states(
	struct backup_dir *d, const char *digest, struct backup_state **list_out, size_t *count_out)
{
	struct backup_state *list = NULL;
	size_t count = 0, room = 0;
	struct dirent *e;
	DIR *dir;
	int fd, err = open_account(d, digest, false, &fd);

	*list_out = NULL;
	*count_out = 0;
	if (err)
		return err == ERR_NOT_FOUND ? 0 : err;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return ERR_NOT_NOW;
	}
	while ((e = readdir(dir)) && count < STATES_MAX) {
		int64_t time = time_of(e->d_name);

		if (!time)
			continue;
		if (count == room)
			list = xreallocarray(list, room = room ? room * 2 : 16, sizeof(*list));
		list[count] = (struct backup_state){.time = time};
		snprintf(list[count].digest, sizeof(list->digest), "%s", digest);
		snprintf(
			list[count].name, sizeof(list->name), "%.*s", (int)sizeof(list->name) - 1, e->d_name);
		count++;
	}
	closedir(dir);
	if (count) {
		qsort(list, count, sizeof(*list), compare_states);
		list[count - 1].is_newest = true;
	}
	*list_out = list;
	*count_out = count;
	return 0;
}

int backup_dir_find(
	struct backup_dir *d, struct slice address, int64_t before, struct backup_state *state_out)
{
	struct backup_state *list;
	char digest[33];
	size_t count;
	int err;

	digest_of(address, digest);
	err = list_states(d, digest, &list, &count);
	while (!err && before && count && list[count - 1].time > before)
		count--;
	if (!err && count)
		*state_out = list[count - 1];
	free(list);
	return err ? err : count ? 0 : ERR_NOT_FOUND;
}

int backup_dir_each(struct backup_dir *d, backup_state_fn *fn, void *arg)
{
	int fd = openat(d->fd, "accounts", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), err = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir)
		return errno == ENOENT ? 0 : error_from_errno(errno);
	while (!err && (e = readdir(dir))) {
		struct backup_state *list;
		size_t count;

		if (strlen(e->d_name) != 32 || strspn(e->d_name, "0123456789abcdef") != 32)
			continue;
		err = list_states(d, e->d_name, &list, &count);
		for (size_t i = 0; i < count && !err; i++)
			err = fn(arg, &list[i]);
		free(list);
	}
	closedir(dir);
	return err;
}

static ssize_t read_file(void *arg, void *out, size_t size)
{
	ssize_t n;

	do
		n = read(*(int *)arg, out, size);
	while (n < 0 && errno == EINTR);
	return n < 0 ? error_from_errno(errno) : n;
}

int backup_dir_read(
	struct backup_dir *d, const struct backup_state *s, stream_record_fn *fn, void *arg, struct buf *why)
{
	struct stream_reader r = {.read = read_file};
	int fd, folder;
	int err = open_account(d, s->digest, false, &folder);

	if (err)
		return err;
	/* What is no file must not keep the thread waiting. */
	fd = openat(folder, s->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	err = fd < 0 ? error_from_errno(errno) : 0;
	close(folder);
	if (err)
		return err;
	r.arg = &fd;
	err = stream_read_all(&r, fn, arg, why);
	stream_reader_deinit(&r);
	close(fd);
	return err;
}

/* ---- saving ---- */

struct saving {
	struct backup_dir *dir;
	struct backup_io *io;
	struct stream_writer writer;
	int fd;
	int err; /* of a flush between steps */
	uint64_t print;
	uint64_t last; /* of the newest state; 0: none */
	bool is_judged;
};

static int write_bytes(int fd, struct slice bytes)
{
	while (bytes.len) {
		ssize_t n = write(fd, bytes.p, bytes.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? error_from_errno(errno) : ERR_IO;
		bytes = slice_from(bytes, (size_t)n);
	}
	return 0;
}

static int write_file(void *arg, struct slice bytes)
{
	const struct saving *s = arg;

	return write_bytes(s->fd, bytes);
}

/*
 * All that is not of messages comes first: the same as last time, the MODSEQ and the sums of deleted messages among it, means that nothing
 * has changed.
 */
static int save_record(void *arg, uint16_t tag, struct slice payload)
{
	struct saving *s = arg;

	if (tag != STREAM_MESSAGE && tag != STREAM_KEPT && tag != STREAM_CHANGE && !s->is_judged) {
		s->print = hash_bytes(payload, s->print ^ tag);
	} else if (!s->is_judged) {
		s->is_judged = true;
		if (s->print == s->last)
			return ERR_EXISTS;
	}
	return stream_write(&s->writer, tag, payload);
}

static int keep(void *arg, struct store_txn *txn, uint64_t blob, uint64_t *body_out, uint64_t *sum_out)
{
	struct saving *s = arg;

	return backup_pack_keep(s->dir->pack, txn, blob, body_out, sum_out);
}

static void hold(void *arg, uint32_t mailbox)
{
	struct saving *s = arg;

	backup_io_hold(s->io, mailbox);
}

/* Waits until what was written since the last look is no more than the rate allows. */
static void pace(struct backup_dir *d)
{
	uint64_t bodies, bytes, now = clock_mono_ms(), due;

	backup_pack_written(d->pack, &bodies, &bytes);
	if (!d->rate)
		return;
	if (!d->paced_ms)
		d->paced_ms = now;
	due = d->paced_ms + (bytes - d->paced_bytes) * 1000 / d->rate;
	if (due > now) {
		uint64_t ms = due - now < 1000 ? due - now : 1000; /* asked again by the next step */
		struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000 * 1000000)};

		nanosleep(&t, NULL);
	} else if (now - d->paced_ms > 10000) {
		d->paced_ms = now;
		d->paced_bytes = bytes;
	}
}

/* Between two steps, without a transaction. */
static bool between(void *arg)
{
	struct saving *s = arg;

	s->err = backup_pack_flush(s->dir->pack);
	pace(s->dir);
	return s->err || backup_io_is_cancelled(s->io);
}

static int write_state(struct saving *s, const struct store_account *a)
{
	const struct store_export_options o = {.store = s->io->backups->admin->store,
		.slot = a->slot,
		.account = a->id,
		.hold = hold,
		.keep = keep,
		.arg = s,
		.record = save_record,
		.record_arg = s,
		.is_cancelled = between};
	struct store_export_totals totals;
	int err = stream_write_head(&s->writer);

	if (!err)
		err = store_export(&o, &totals);
	if (s->err)
		err = s->err;
	if (!err && !s->is_judged && s->print == s->last)
		err = ERR_EXISTS;
	if (!err)
		err = stream_write_end(&s->writer);
	if (!err)
		err = backup_pack_sync(s->dir->pack);
	if (!err && fsync(s->fd) < 0)
		err = error_from_errno(errno);
	return err;
}

static int drop_old(struct backup_dir *d, const char *digest, int folder, unsigned keep_count)
{
	struct backup_state *list;
	size_t count;
	int err = list_states(d, digest, &list, &count);

	for (size_t i = 0; !err && i + keep_count < count; i++)
		if (unlinkat(folder, list[i].name, 0) < 0)
			err = error_from_errno(errno);
	free(list);
	return err;
}

static int name_state(uint64_t print, int folder)
{
	char name[40];
	time_t now = (time_t)clock_wall_s();
	struct tm tm;
	size_t n;

	gmtime_r(&now, &tm);
	n = strftime(name, sizeof(name), "%Y%m%dT%H%M%SZ-", &tm);
	snprintf(name + n, sizeof(name) - n, "%016llx", (unsigned long long)print);
	if (renameat(folder, "new", folder, name) < 0 || fsync(folder) < 0)
		return error_from_errno(errno);
	return 0;
}

static uint64_t newest_print(struct backup_dir *d, const char *digest)
{
	struct backup_state *list;
	uint64_t print = 0;
	size_t count;

	if (list_states(d, digest, &list, &count) == 0 && count)
		print = strtoull(strchr(list[count - 1].name, '-') + 1, NULL, 16);
	free(list);
	return print;
}

int backup_dir_save(
	struct backup_dir *d, struct backup_io *io, const struct store_account *a, unsigned keep_count)
{
	struct saving s = {.dir = d, .io = io, .fd = -1};
	char digest[33];
	int folder = -1;
	int err = store_slot_identity(io->backups->admin->store, a->slot, &s.print);

	s.print ^= (uint64_t)a->id << 32;
	digest_of(slice_str(a->address), digest);
	if (!err)
		err = backup_pack_slot(d->pack, s.print ^ (uint64_t)a->id << 32);
	if (!err)
		err = open_account(d, digest, true, &folder);
	if (err)
		return err;
	s.last = newest_print(d, digest);
	s.fd = openat(folder, "new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s.fd < 0)
		err = error_from_errno(errno);
	s.writer = (struct stream_writer){.write = write_file, .arg = &s};
	io->slot = a->slot;
	if (!err)
		err = write_state(&s, a);
	backup_io_release(io);
	stream_writer_deinit(&s.writer);
	if (s.fd >= 0)
		close(s.fd);
	if (!err) {
		FAULT("backup-before-name");
		err = name_state(s.print, folder);
	} else {
		unlinkat(folder, "new", 0);
	}
	if (!err && keep_count)
		err = drop_old(d, digest, folder, keep_count);
	close(folder);
	return err;
}

/* ---- domains and classes ---- */

static int write_domains(struct slice commands, uint64_t print, int folder)
{
	int fd = openat(folder, "new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err = fd < 0 ? error_from_errno(errno) : write_bytes(fd, commands);

	if (!err && fsync(fd) < 0)
		err = error_from_errno(errno);
	if (fd >= 0)
		close(fd);
	return err ? err : name_state(print, folder);
}

int backup_dir_save_domains(struct backup_dir *d, struct slice commands, unsigned keep_count)
{
	uint64_t print = hash_bytes(commands, 0), last = newest_print(d, "");
	int folder, err;

	if (print == last || (!last && !commands.len))
		return ERR_EXISTS;
	err = open_account(d, "", true, &folder);
	if (err)
		return err;
	err = write_domains(commands, print, folder);
	if (!err && keep_count)
		err = drop_old(d, "", folder, keep_count);
	close(folder);
	return err;
}

int backup_dir_each_domains(struct backup_dir *d, backup_state_fn *fn, void *arg)
{
	struct backup_state *list;
	size_t count;
	int err = list_states(d, "", &list, &count);

	for (size_t i = 0; i < count && !err; i++)
		err = fn(arg, &list[i]);
	free(list);
	return err;
}

int backup_dir_verify_domains(struct backup_dir *d, const struct backup_state *state)
{
	struct buf text = {0};
	char room[65536];
	int folder, fd = -1, err = open_account(d, "", false, &folder);
	ssize_t n = 0;

	if (err)
		return err;
	fd = openat(folder, state->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	err = fd < 0 ? error_from_errno(errno) : 0;
	while (!err && (n = read_file(&fd, room, sizeof(room))) > 0)
		if (buf_len(&text) < DOMAINS_MOST)
			buf_add(&text, room, (size_t)n);
	if (n < 0)
		err = (int)n;
	if (!err && hash_bytes(buf_view(&text), 0) != strtoull(strchr(state->name, '-') + 1, NULL, 16))
		err = ERR_CORRUPT;
	buf_deinit(&text);
	if (fd >= 0)
		close(fd);
	close(folder);
	return err;
}
