/*
 * A store is a directory:
 *
 *	version     "mailtier store 3\nslots 4\n", written last when the store is made
 *	lock        held (flock) by the one program that has it open
 *	s0 … sN-1   one LMDB environment each: data.mdb, lock.mdb
 */
#include "backend/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backend/store/db.h"
#include "backend/store/db_slot.h"
#include "backend/store/names.h"
#include "backend/store/store_import.h"

#include "common/base/mem.h"

#define VERSION_LINE "mailtier store "

static void explain(struct buf *why, const char *format, ...) PRINTF_LIKE(2, 3);
static void explain(struct buf *why, const char *format, ...)
{
	va_list args;

	if (!why || buf_len(why))
		return;
	va_start(args, format);
	buf_vprintf(why, format, args);
	va_end(args);
}

/* ---- the directory ---- */

/* File systems of other hosts, and those whose maps and locks are not those of the kernel's own. */
static bool is_remote(const char *dir)
{
	static const uint32_t magics[] = {
		0x6969,     /* NFS */
		0x517b,     /* SMB */
		0xff534d42, /* CIFS */
		0xfe534d42, /* SMB2 */
		0x01021997, /* 9p */
		0x5346414f, /* AFS */
		0x73757245, /* Coda */
		0x00c36400, /* Ceph */
		0x65735546, /* FUSE */
	};
	struct statfs fs;

	if (statfs(dir, &fs) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(magics); i++)
		if ((uint32_t)fs.f_type == magics[i])
			return true;
	return false;
}

static int take_lock(struct store *store, struct buf *why)
{
	char *path = NULL;
	int err = 0;

	if (asprintf(&path, "%s/lock", store->dir) < 0)
		return ERR_NOT_NOW;
	store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (store->lock_fd < 0) {
		err = error_from_errno(errno);
		explain(why, "cannot open %s: %s", path, strerror(errno));
	} else if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		err = ERR_NOT_NOW;
		explain(why, "%s is held by another program", path);
	}
	free(path);
	return err;
}

/* The text of the version file, or empty. */
static int read_version(struct store *store, char *text, size_t size)
{
	char *path = NULL;
	ssize_t n;
	int fd;

	if (asprintf(&path, "%s/version", store->dir) < 0)
		return ERR_NOT_NOW;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	free(path);
	if (fd < 0)
		return error_from_errno(errno);
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return ERR_IO;
	text[n] = '\0';
	return 0;
}

static int parse_version(struct store *store, const char *text, bool *is_old_out, struct buf *why)
{
	unsigned version = 0, slots = 0;

	if (sscanf(text, VERSION_LINE "%u slots %u", &version, &slots) != 2 || slots == 0 ||
		slots > STORE_SLOTS_MAX) {
		explain(why, "%s/version is damaged", store->dir);
		return ERR_CORRUPT;
	}
	if (version < STORE_VERSION_OLDEST || version > STORE_VERSION) {
		explain(why, "%s has version %u; this program reads version %d", store->dir, version,
			STORE_VERSION);
		return ERR_UNSUPPORTED;
	}
	store->slot_count = slots;
	*is_old_out = version < STORE_VERSION;
	return 0;
}

static int write_version(struct store *store)
{
	char *path = NULL, *temporary = NULL, text[80];
	int fd = -1, err = ERR_IO;
	size_t len = (size_t)snprintf(
		text, sizeof(text), VERSION_LINE "%d\nslots %u\n", STORE_VERSION, store->slot_count);

	if (asprintf(&path, "%s/version", store->dir) < 0)
		return ERR_NOT_NOW;
	if (asprintf(&temporary, "%s.new", path) >= 0)
		fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0) {
		err = error_from_errno(errno);
	} else {
		errno = 0;
		if (write(fd, text, len) == (ssize_t)len && fsync(fd) == 0 && rename(temporary, path) == 0)
			err = 0;
		else if (errno)
			err = error_from_errno(errno);
		close(fd);
	}
	free(path);
	free(temporary);
	fd = err ? -1 : open(store->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		if (fsync(fd) < 0)
			err = error_from_errno(errno);
		close(fd);
	}
	return err;
}

/* Finds out how many slots there are; is_new_out: the version file is to be written, anew
 * or for this version. */
static int look(struct store *store, const struct store_options *options, bool *is_new_out, struct buf *why)
{
	char text[200];
	int err = read_version(store, text, sizeof(text));
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	*is_new_out = false;
	if (!err)
		return parse_version(store, text, is_new_out, why);
	if (err != ERR_NOT_FOUND)
		return err;
	if (options->must_exist) {
		explain(why, "%s holds no store", store->dir);
		return ERR_NOT_FOUND;
	}
	store->slot_count = options->slots ? options->slots : (unsigned)(cores > 0 ? cores : 1);
	if (store->slot_count > STORE_SLOTS_MAX)
		store->slot_count = STORE_SLOTS_MAX;
	*is_new_out = true;
	return 0;
}

/* ---- open and close ---- */

static int load(struct store *store, unsigned slot)
{
	struct store_txn *txn;
	int err = 0;

	if (!store->no_repair)
		err = db_remove_pending(store, slot);
	if (!err)
		err = store_begin_read(store, slot, &txn);
	if (err)
		return err;
	err = names_load(store->names, txn);
	store_end_read(&txn);
	return err;
}

static int open_all(struct store *store, const struct store_options *options, struct buf *why)
{
	bool is_new = false;
	/* A folder that holds no store stays as it is. */
	int err = options->must_exist ? look(store, options, &is_new, why) : 0;

	if (!err)
		err = take_lock(store, why);
	if (!err)
		err = look(store, options, &is_new, why);
	for (unsigned i = 0; i < store->slot_count && !err; i++)
		err = db_slot_open(store, i, options, why);
	if (!err && is_new)
		err = write_version(store);
	/* All of them before any names are read: an account that moved has some in two slots. */
	for (unsigned i = 0; i < store->slot_count && !err && !store->no_repair; i++)
		err = store_import_recover(store, i);
	for (unsigned i = 0; i < store->slot_count && !err; i++)
		err = load(store, i);
	return err;
}

int store_open(const struct store_options *options, struct store **store_out, struct buf *why)
{
	struct store *store;
	int err;

	if (!options->must_exist && mkdir(options->dir, 0700) < 0 && errno != EEXIST) {
		err = error_from_errno(errno);
		explain(why, "cannot make %s: %s", options->dir, strerror(errno));
		return err;
	}
	if (access(options->dir, R_OK | W_OK | X_OK) < 0) {
		err = error_from_errno(errno);
		explain(why, "cannot use %s: %s", options->dir, strerror(errno));
		return err;
	}
	if (is_remote(options->dir)) {
		explain(why,
			"%s is on a network or FUSE file system, whose locks and maps a store cannot trust",
			options->dir);
		return ERR_UNSUPPORTED;
	}
	store = xcalloc(1, sizeof(*store));
	store->dir = xstrdup(options->dir);
	store->lock_fd = -1;
	store->no_repair = options->no_repair;
	store->names = names_new();
	err = open_all(store, options, why);
	if (err) {
		explain(why, "cannot open the store %s: %s", options->dir, error_text(err));
		store_close(&store);
		return err;
	}
	*store_out = store;
	return 0;
}

void store_close(struct store **store)
{
	struct store *s = *store;

	if (!s)
		return;
	for (unsigned i = 0; i < s->slot_count; i++)
		db_slot_close(&s->slots[i]);
	names_free(&s->names);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->dir);
	free(s);
	*store = NULL;
}

unsigned store_slots(const struct store *store)
{
	return store->slot_count;
}
