/*
 * look: stat -> new? -> stood still? -> read -> still the same file? -> parse -> may it follow? -> remember.
 * The whole text is read into memory of our own: a file that is rewritten in place while we parse cannot
 * change it.
 */
#include "mapping/map_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/secret.h"

static struct map_signature signature_of(int rc, const struct stat *st)
{
	if (rc)
		return (struct map_signature){.error = errno};
	return (struct map_signature){.device = st->st_dev,
		.inode = st->st_ino,
		.size = st->st_size,
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime = st->st_mtim};
}

static bool is_same(const struct map_signature *a, const struct map_signature *b)
{
	return a->error == b->error && a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       a->mode == b->mode && a->uid == b->uid && a->gid == b->gid &&
	       a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static struct map_signature look_at(const char *file)
{
	struct stat st;

	return signature_of(stat(file, &st), &st);
}

/* ---- reading ---- */

/* The file's text, and what it was that we read. ERR_NOT_NOW: it changed meanwhile. */
static int text_read(const char *file, struct buf *why, char **text_out, size_t *len_out,
	struct map_signature *signature_out)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct map_signature after;
	struct stat st;
	size_t len = 0;
	char *text;

	if (fd < 0 || fstat(fd, &st)) {
		buf_printf(why, "%s: cannot be read: %s", file, strerror(errno));
		if (fd >= 0)
			close(fd);
		return ERR_IO;
	}
	*signature_out = signature_of(0, &st);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > MAP_TEXT_MOST) {
		buf_printf(why, "%s: %s", file,
			S_ISREG(st.st_mode) ? "larger than 2 GiB" : "is no regular file");
		close(fd);
		return S_ISREG(st.st_mode) ? ERR_TOO_BIG : ERR_IO;
	}
	text = malloc((size_t)st.st_size + 1);
	while (text && len <= (size_t)st.st_size) {
		ssize_t n = read(fd, text + len, (size_t)st.st_size + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	after = signature_of(fstat(fd, &st), &st);
	close(fd);
	if (!text || len != (size_t)signature_out->size || !is_same(signature_out, &after)) {
		buf_printf(why, "%s: %s", file, text ? "changed while it was read" : "no memory");
		free(text);
		return ERR_NOT_NOW;
	}
	*text_out = text;
	*len_out = len;
	return 0;
}

static void text_free(char *text, size_t len)
{
	if (text)
		secret_wipe(text, len);
	free(text);
}

static int read_and_parse(const struct map_parse_options *options, struct buf *why,
	struct map_signature *signature_out, struct map_parse_info *info_out, struct map_data **data_out)
{
	struct map_parse_options o = *options;
	char *text = NULL;
	size_t len = 0;
	int error = text_read(o.file, why, &text, &len, signature_out);

	if (error)
		return error;
	o.readable_by_others = (signature_out->mode & 077) != 0;
	error = map_parse(slice_of(text, len), &o, why, info_out, data_out);
	text_free(text, len);
	return error;
}

int map_file_check(const struct map_parse_options *options, struct buf *why, struct map_parse_info *info_out,
	size_t *count_out)
{
	struct map_signature signature;
	struct map_data *data;
	int error = read_and_parse(options, why, &signature, info_out, &data);

	if (error)
		return error;
	*count_out = map_data_count(data);
	map_data_unref(&data);
	return 0;
}

/* ---- when, and whether ---- */

/* True if the file as it is now has stood still for long enough. */
static bool has_stood_still(struct map_file *f, const struct map_signature *now)
{
	uint64_t mono = clock_mono_ms();
	int64_t age_ms;

	if (f->has_seen && is_same(&f->seen, now))
		return mono - f->seen_since_ms >= MAP_STILL_MS;
	f->seen = *now;
	f->seen_since_ms = mono;
	if (f->has_seen || now->error)
		return false;
	/* The first look: how old the last writing is counts. */
	f->has_seen = true;
	age_ms =
		(int64_t)clock_wall_ms() - ((int64_t)now->mtime.tv_sec * 1000 + now->mtime.tv_nsec / 1000000);
	if (age_ms < MAP_STILL_MS)
		return false;
	f->seen_since_ms = mono >= MAP_STILL_MS ? mono - MAP_STILL_MS : 0;
	return true;
}

/* May this generation follow the one in force? */
static int judge(const struct map_file *f, size_t count, bool has_end, struct buf *why)
{
	if (!f->in_force)
		return 0;
	if (f->in_force_end && !has_end) {
		buf_printf(why,
			"%s: has no line \"# end N\", which the one in force had: it may be cut (map reload "
			"--force "
			"takes it)",
			f->options.file);
		return ERR_DENIED;
	}
	if ((uint64_t)count * 100 < (uint64_t)f->in_force_count * (100 - f->max_shrink)) {
		buf_printf(why,
			"%s: %zu entries instead of %zu: more than max-shrink (%u %%) fewer (map reload "
			"--force takes "
			"it)",
			f->options.file, count, f->in_force_count, f->max_shrink);
		return ERR_DENIED;
	}
	return 0;
}

static enum map_look refuse(struct map_file *f, const struct map_signature *now, int error, int *error_out)
{
	f->has_read = true;
	f->read = *now;
	*error_out = error;
	return MAP_LOOK_REFUSED;
}

enum map_look map_file_look(struct map_file *f, unsigned flags, struct buf *why, int *error_out,
	struct map_parse_info *info_out, struct map_data **data_out)
{
	struct map_signature now = look_at(f->options.file);
	struct map_signature read;
	struct map_data *data = NULL;
	struct map_parse_info info;
	bool still;
	int error;

	if (!(flags & MAP_LOOK_AGAIN) && f->has_read && is_same(&f->read, &now)) {
		f->seen = now;
		return MAP_LOOK_SAME;
	}
	still = has_stood_still(f, &now);
	f->has_seen = true;
	if (now.error && (still || flags & MAP_LOOK_START)) {
		buf_printf(why, "%s: cannot be read: %s", f->options.file, strerror(now.error));
		return refuse(f, &now, error_from_errno(now.error), error_out);
	}
	if (!still && !(flags & MAP_LOOK_START && !now.error))
		return MAP_LOOK_MOVING;
	error = read_and_parse(&f->options, why, &read, &info, &data);
	if (error == ERR_NOT_NOW || (!still && (error || !info.has_end))) {
		map_data_unref(&data);
		buf_clear(why);
		return MAP_LOOK_MOVING;
	}
	if (!error && !(flags & MAP_LOOK_FORCE))
		error = judge(f, map_data_count(data), info.has_end, why);
	if (error) {
		map_data_unref(&data);
		return refuse(f, &now, error, error_out);
	}
	f->has_read = f->in_force = true;
	f->read = read;
	f->in_force_end = info.has_end;
	f->in_force_count = map_data_count(data);
	*info_out = info;
	*data_out = data;
	return MAP_LOOK_LOADED;
}
