/*
 * The file behind a map: when it is read, and whether what it holds may follow what is in force. No loop and
 * no lock in here: one thread at a time calls map_file_look(), which blocks on the disk and belongs on a
 * worker.
 *
 * A file is read when inode, size, mtime and mode have stood still for MAP_STILL_MS, and once. What was read
 * is judged whole: its syntax, its end line, how much it shrank.
 */
#pragma once

#include <sys/stat.h>

#include "mapping/map_parse.h"

#define MAP_STILL_MS 1000

/* What tells one writing of a file from another. */
struct map_signature {
	int error; /* errno when there is no file to look at */
	dev_t device;
	ino_t inode;
	off_t size;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec mtime;
};

struct map_file {
	struct map_parse_options options; /* views of the owner's */
	unsigned max_shrink;
	bool has_seen, has_read;
	struct map_signature seen; /* at the last look */
	uint64_t seen_since_ms;
	struct map_signature read; /* of the last reading, good or refused */
	bool in_force;             /* a generation of this file was taken … */
	bool in_force_end;         /* … with an end line … */
	size_t in_force_count;     /* … and so many entries */
};

enum map_look {
	MAP_LOOK_SAME,   /* nothing new */
	MAP_LOOK_MOVING, /* something new that does not stand still yet */
	MAP_LOOK_LOADED, /* data_out is the new generation */
	MAP_LOOK_REFUSED /* why says it */
};

enum map_look_flag {
	MAP_LOOK_AGAIN = 1, /* read even what was read before */
	MAP_LOOK_FORCE = 2, /* take it even if it shrank or lost its end line */
	MAP_LOOK_START =
		4 /* first reading: a young file that proves itself whole by its end line is not waited for */
};

/* info_out, data_out: with MAP_LOOK_LOADED; error_out: with MAP_LOOK_REFUSED; why is added to. */
enum map_look map_file_look(struct map_file *f, unsigned flags, struct buf *why, int *error_out,
	struct map_parse_info *info_out, struct map_data **data_out);
/* Reads and checks a file by itself; for `map check`. 0, or ERR_* and why. */
MUST_CHECK int map_file_check(const struct map_parse_options *options, struct buf *why,
	struct map_parse_info *info_out, size_t *count_out);
