#include "backend/admin/backup_pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/bytes.h"
#include "common/base/fault.h"
#include "common/base/mem.h"
#include "common/base/table.h"

#define MAGIC 0x4242544d /* MTBB */
#define HEAD 32          /* magic u32 | frames u32 | size u64 | stored u64 | sum u64 */
#define FRAME 12
#define ROW 24
#define GATHER (1u << 20)
#define PACK_NAME 40

/* A body of this run that the index does not know yet. */
struct fresh {
	char key[8]; /* blob */
	uint64_t body, sum;
};

struct backup_pack {
	int dir, packs, index;
	uint64_t identity; /* of `index` */
	/* writing */
	int fd;
	uint32_t number, next;
	uint64_t offset; /* of what was gathered first */
	struct buf gathered;
	struct table *fresh;
	uint64_t bodies, bytes;
	/* a body on its way */
	uint64_t blob, body, sum, at, stored;
	bool in_body;
	/* reading */
	int source_fd;
	uint32_t source_number;
	uint64_t source_at; /* of the stream */
	uint64_t source_size;
	struct buf frames;
	char *room, *raw;
	uint32_t raw_frame; /* UINT32_MAX: none */
	struct frame_opener *opener;
};

static int make_dir(int dir, const char *name, int *fd_out)
{
	if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return error_from_errno(errno);
	*fd_out = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *fd_out < 0 ? error_from_errno(errno) : 0;
}

static void pack_name(uint32_t number, char *name)
{
	snprintf(name, PACK_NAME, "%08x", (unsigned)number);
}

/* Calls fn for each pack there is. */
static int each_pack(
	struct backup_pack *p, int (*fn)(struct backup_pack *p, uint32_t number, void *arg), void *arg)
{
	int fd = openat(p->dir, "packs", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), err = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		return error_from_errno(errno);
	while (!err && (e = readdir(d))) {
		char *end;
		unsigned long n = strtoul(e->d_name, &end, 16);

		if (strlen(e->d_name) == 8 && !*end && n > 0 && n < BACKUP_PACKS_MAX)
			err = fn(p, (uint32_t)n, arg);
	}
	closedir(d);
	return err;
}

static int note_pack(struct backup_pack *p, uint32_t number, void *arg)
{
	(void)arg;
	if (number >= p->next)
		p->next = number + 1;
	return 0;
}

int backup_pack_open(int dir, struct backup_pack **pack_out)
{
	struct backup_pack *p = xcalloc(1, sizeof(*p));
	int err;

	*p = (struct backup_pack){.dir = dir, .packs = -1, .index = -1, .fd = -1, .source_fd = -1, .next = 1};
	p->fresh = table_new();
	err = make_dir(dir, "packs", &p->packs);
	if (!err)
		err = each_pack(p, note_pack, NULL);
	if (err)
		backup_pack_close(&p);
	*pack_out = p;
	return err;
}

static void forget_fresh(struct backup_pack *p)
{
	struct slice key;
	void *value;

	for (size_t at = 0; table_next(p->fresh, &at, &key, &value);)
		free(value);
	table_free(&p->fresh);
}

void backup_pack_close(struct backup_pack **pack)
{
	struct backup_pack *p = *pack;
	int fds[4];

	if (!p)
		return;
	memcpy(fds, (int[]){p->packs, p->index, p->fd, p->source_fd}, sizeof(fds));
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	forget_fresh(p);
	buf_deinit(&p->gathered);
	buf_deinit(&p->frames);
	free(p->room);
	free(p->raw);
	frame_opener_free(&p->opener);
	free(p);
	*pack = NULL;
}

/* ---- the index ---- */

int backup_pack_slot(struct backup_pack *p, uint64_t identity)
{
	char name[PACK_NAME + 8];
	int fd;
	int err = make_dir(p->dir, "index", &fd);

	if (err)
		return err;
	snprintf(name, sizeof(name), "%016llx", (unsigned long long)identity);
	if (p->index >= 0)
		close(p->index);
	p->index = openat(fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	err = p->index < 0 ? error_from_errno(errno) : 0;
	close(fd);
	p->identity = identity;
	p->in_body = false; /* of one that was given up */
	return err;
}

static void make_row(struct backup_pack *p, uint64_t blob, uint64_t body, uint64_t sum, char *row)
{
	char all[32];

	bytes_put_u64(row, body);
	bytes_put_u64(row + 8, sum);
	memcpy(all, row, 16);
	bytes_put_u64(all + 16, p->identity);
	bytes_put_u64(all + 24, blob);
	bytes_put_u64(row + 16, hash_bytes(slice_of(all, sizeof(all)), 0));
}

/* Where the body stands; false: nowhere, or in a pack that is no more. */
static bool find(struct backup_pack *p, uint64_t blob, uint64_t sum, uint64_t *body_out)
{
	char row[ROW], right[ROW], name[PACK_NAME], key[8];
	const struct fresh *f;
	struct stat st;

	bytes_put_u64(key, blob);
	f = table_get(p->fresh, slice_of(key, sizeof(key)));
	if (f && f->sum == sum) {
		*body_out = f->body;
		return true;
	}
	if (pread(p->index, row, sizeof(row), (off_t)(blob * ROW)) != sizeof(row))
		return false;
	*body_out = bytes_get_u64(row);
	make_row(p, blob, *body_out, sum, right);
	pack_name(backup_pack_number(*body_out), name);
	return memcmp(row, right, sizeof(row)) == 0 && fstatat(p->packs, name, &st, 0) == 0;
}

/* ---- writing ---- */

static int new_pack(struct backup_pack *p)
{
	char name[PACK_NAME];

	if (p->next >= BACKUP_PACKS_MAX)
		return ERR_TOO_BIG;
	p->number = p->next++;
	p->offset = 0;
	pack_name(p->number, name);
	p->fd = openat(p->packs, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return p->fd < 0 ? error_from_errno(errno) : 0;
}

static uint64_t sum_of(const struct store_blob_info *info)
{
	return hash_bytes(info->frames, info->size);
}

static int begin_body(struct backup_pack *p, uint64_t blob, const struct store_blob_info *info, uint64_t sum)
{
	char head[HEAD];
	int err = p->fd < 0 ? new_pack(p) : 0;

	if (err)
		return err;
	p->blob = blob;
	p->body = (uint64_t)p->number << 40 | (p->offset + buf_len(&p->gathered));
	p->sum = sum;
	p->at = 0;
	p->stored = info->stored;
	p->in_body = true;
	bytes_put_u32(head, MAGIC);
	bytes_put_u32(head + 4, info->frame_count);
	bytes_put_u64(head + 8, info->size);
	bytes_put_u64(head + 16, info->stored);
	bytes_put_u64(head + 24, sum);
	buf_add(&p->gathered, head, sizeof(head));
	buf_add_slice(&p->gathered, info->frames);
	return 0;
}

static void end_body(struct backup_pack *p)
{
	struct fresh *f = xcalloc(1, sizeof(*f));

	bytes_put_u64(f->key, p->blob);
	f->body = p->body;
	f->sum = p->sum;
	free(table_put(p->fresh, slice_of(f->key, sizeof(f->key)), f));
	p->in_body = false;
	p->bodies++;
}

int backup_pack_keep(
	struct backup_pack *p, struct store_txn *txn, uint64_t blob, uint64_t *body_out, uint64_t *sum_out)
{
	struct store_blob_info info;
	int err = store_blob_info(txn, blob, &info);

	if (err)
		return err;
	*sum_out = sum_of(&info);
	if (!p->in_body && find(p, blob, *sum_out, body_out))
		return 0;
	if (buf_len(&p->gathered) >= GATHER)
		return 1;
	if (!p->in_body)
		err = begin_body(p, blob, &info, *sum_out);
	if (!err && p->blob != blob)
		err = ERR_CORRUPT;
	while (!err && p->at < p->stored) {
		struct slice bytes;
		uint64_t left = p->stored - p->at;

		if (buf_len(&p->gathered) >= GATHER)
			return 1;
		err = store_blob_stream(
			txn, blob, p->at, left < STORE_FRAME_SIZE ? (size_t)left : STORE_FRAME_SIZE, &bytes);
		if (err)
			break;
		buf_add_slice(&p->gathered, bytes);
		p->at += bytes.len;
	}
	if (err)
		return err;
	*body_out = p->body;
	end_body(p);
	return 0;
}

int backup_pack_flush(struct backup_pack *p)
{
	struct slice left = buf_view(&p->gathered);

	while (left.len) {
		ssize_t n = pwrite(p->fd, left.p, left.len, (off_t)p->offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? error_from_errno(errno) : ERR_IO;
		p->offset += (uint64_t)n;
		p->bytes += (uint64_t)n;
		left = slice_from(left, (size_t)n);
	}
	buf_clear(&p->gathered);
	return 0;
}

int backup_pack_sync(struct backup_pack *p)
{
	struct slice key;
	void *value;
	int err = backup_pack_flush(p);

	if (err || table_count(p->fresh) == 0)
		return err;
	if (fdatasync(p->fd) < 0 || fsync(p->packs) < 0)
		return error_from_errno(errno);
	FAULT("backup-pack-synced");
	for (size_t at = 0; table_next(p->fresh, &at, &key, &value);) {
		struct fresh *f = value;
		uint64_t blob = bytes_get_u64(f->key);
		char row[ROW];

		make_row(p, blob, f->body, f->sum, row);
		if (pwrite(p->index, row, sizeof(row), (off_t)(blob * ROW)) != sizeof(row))
			return errno ? error_from_errno(errno) : ERR_IO;
	}
	forget_fresh(p);
	p->fresh = table_new();
	if (p->offset >= BACKUP_PACK_SIZE) {
		close(p->fd);
		p->fd = -1;
	}
	return 0;
}

void backup_pack_written(const struct backup_pack *p, uint64_t *bodies_out, uint64_t *bytes_out)
{
	*bodies_out = p->bodies;
	*bytes_out = p->bytes;
}

/* ---- reading ---- */

static int read_at(int fd, uint64_t at, void *out, size_t size)
{
	size_t got = 0;

	while (got < size) {
		ssize_t n = pread(fd, (char *)out + got, size - got, (off_t)(at + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? error_from_errno(errno) : ERR_CORRUPT;
		got += (size_t)n;
	}
	return 0;
}

static int open_source(struct backup_pack *p, uint32_t number)
{
	char name[PACK_NAME];

	if (p->source_fd >= 0 && p->source_number == number)
		return 0;
	if (p->source_fd >= 0)
		close(p->source_fd);
	pack_name(number, name);
	p->source_fd = openat(p->packs, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	p->source_number = number;
	return p->source_fd < 0 ? error_from_errno(errno) : 0;
}

/* Frame n into p->raw. */
static int load_frame(struct backup_pack *p, uint32_t n)
{
	const char *table = buf_view(&p->frames).p;
	uint64_t at = p->source_at, left = p->source_size - (uint64_t)n * STORE_FRAME_SIZE;
	uint32_t len = bytes_get_u32(table + (size_t)n * FRAME);
	int err;

	if (p->raw_frame == n)
		return 0;
	p->raw_frame = UINT32_MAX;
	for (uint32_t i = 0; i < n; i++)
		at += bytes_get_u32(table + (size_t)i * FRAME);
	if (len > 2 * STORE_FRAME_SIZE)
		return ERR_CORRUPT;
	if (!p->room)
		p->room = xmalloc(2 * STORE_FRAME_SIZE);
	if (!p->raw)
		p->raw = xmalloc(STORE_FRAME_SIZE);
	if (!p->opener)
		p->opener = frame_opener_new();
	if (!p->opener)
		return ERR_NOT_NOW;
	err = read_at(p->source_fd, at, p->room, len);
	if (!err)
		err = store_frame_unpack(p->opener, slice_of(p->room, len),
			bytes_get_u64(table + (size_t)n * FRAME + 4), p->raw,
			left < STORE_FRAME_SIZE ? (size_t)left : STORE_FRAME_SIZE);
	if (!err)
		p->raw_frame = n;
	return err;
}

static ssize_t read_source(void *arg, uint64_t offset, void *out, size_t size)
{
	struct backup_pack *p = arg;
	size_t at = (size_t)(offset % STORE_FRAME_SIZE), have;
	uint64_t left;
	int err;

	if (offset >= p->source_size)
		return 0;
	err = load_frame(p, (uint32_t)(offset / STORE_FRAME_SIZE));
	if (err)
		return err;
	left = p->source_size - (offset - at);
	have = (left < STORE_FRAME_SIZE ? (size_t)left : STORE_FRAME_SIZE) - at;
	have = have < size ? have : size;
	memcpy(out, p->raw + at, have);
	return (ssize_t)have;
}

int backup_pack_source(
	void *pack, uint64_t body, uint64_t size, uint64_t sum, struct store_source *source_out)
{
	struct backup_pack *p = pack;
	uint64_t at = body & ((UINT64_C(1) << 40) - 1);
	char head[HEAD], *room;
	size_t frames;
	int err = open_source(p, backup_pack_number(body));

	if (!err)
		err = read_at(p->source_fd, at, head, sizeof(head));
	if (err)
		return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
	frames = (size_t)((size + STORE_FRAME_SIZE - 1) / STORE_FRAME_SIZE) * FRAME;
	if (bytes_get_u32(head) != MAGIC || bytes_get_u64(head + 8) != size ||
		bytes_get_u64(head + 24) != sum || (size_t)bytes_get_u32(head + 4) * FRAME != frames)
		return ERR_CORRUPT;
	buf_clear(&p->frames);
	room = buf_reserve(&p->frames, frames + 1);
	err = read_at(p->source_fd, at + HEAD, room, frames);
	buf_added(&p->frames, frames);
	if (!err && hash_bytes(buf_view(&p->frames), size) != sum)
		err = ERR_CORRUPT;
	p->source_at = at + HEAD + frames;
	p->source_size = size;
	p->raw_frame = UINT32_MAX;
	if (err)
		return err;
	*source_out = (struct store_source){.read = read_source, .arg = p, .size = size};
	return 0;
}

struct sweep {
	const uint8_t *used;
	unsigned count;
};

static int remove_unused(struct backup_pack *p, uint32_t number, void *arg)
{
	struct sweep *s = arg;
	char name[PACK_NAME];

	if (s->used[number / 8] >> number % 8 & 1)
		return 0;
	pack_name(number, name);
	if (unlinkat(p->packs, name, 0) < 0)
		return error_from_errno(errno);
	s->count++;
	return 0;
}

int backup_pack_remove_unused(struct backup_pack *p, const uint8_t *used, unsigned *count_out)
{
	struct sweep s = {.used = used};
	int err = each_pack(p, remove_unused, &s);

	*count_out = s.count;
	return err;
}
