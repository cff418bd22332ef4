/*
 * What the files of this room share: the loaded values and how they are built. Nobody else includes it.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/secret.h"
#include "common/conf/conf.h"

/* Limits of a file; far above what people write. */
#define CONF_FILE_MOST (4u * 1024 * 1024)
#define CONF_TITLE_MOST 64
#define CONF_ERRORS_MOST (64 * 1024)

/* One key of one section. Text lives in the arena of its struct conf. */
struct conf_value {
	const struct conf_key *key;
	bool is_set;      /* a file sets it; else it holds the default */
	const char *file; /* NULL: default */
	int line;
	unsigned read_in;   /* number of the file that set it, from 1 */
	const char **words; /* as written; NULL-terminated */
	size_t count;
	size_t room; /* allocated in words, with the NULL */
	/* made of the words by conf_value_finish() */
	uint64_t number;
	int choice;
	const char *path;
	struct conf_address *addresses;
	size_t address_count; /* "*" makes two */
	struct secret secret;
};

/* One section: the top, an untitled one, or one title of a titled one. */
struct conf_group {
	struct conf_group *next;
	const struct conf_section *section;
	const char *title; /* NULL: untitled */
	const char *file;  /* where it stands; NULL: in no file */
	int line;
	unsigned read_in;
	struct conf_value *values;
	size_t count;
};

/* The titles of one section. */
struct conf_titles {
	struct conf_titles *next;
	const struct conf_section *section;
	const char **titles; /* NULL-terminated */
	size_t count;
};

struct conf {
	const struct conf_table *table;
	struct arena arena;
	const char **files;
	size_t file_count;
	struct conf_group *groups; /* in order of appearance */
	struct conf_titles *titles;
	struct buf errors;
	bool has_io_error;
};

extern const struct conf_section conf_top;

/* Iterates over all keys of a table: *at starts as {0}; NULL at the end. */
struct conf_cursor {
	size_t table;
	size_t row;
};
const struct conf_key *conf_next_key(const struct conf_table *table, struct conf_cursor *at);
/* NULL when the table has none of that name. */
const struct conf_section *conf_find_section(const struct conf_table *table, const char *name);
/* True if blank-separated words hold this one; its position then. */
bool conf_has_word(const char *words, const char *word, int *position_out);
/* Does this key belong under this title. */
bool conf_is_key_of(const struct conf_key *key, const struct conf_section *section, const char *title);

struct conf_group *conf_find_group(const struct conf *conf, const char *section, const char *title);
struct conf_value *conf_find_value(const struct conf_group *group, const char *key);
/* Finds or makes the group, its values being the defaults. */
struct conf_group *conf_make_group(struct conf *conf, const struct conf_section *section, const char *title);
void conf_fault(struct conf *conf, const char *file, int line, const char *key, const char *format, ...)
	PRINTF_LIKE(5, 6);

/* Sets the words to none; adds one. */
void conf_value_clear(struct conf_value *value);
void conf_value_add(struct conf *conf, struct conf_value *value, struct slice word);
/* Makes the typed value of the words; a fault goes to the configuration's errors. */
void conf_value_finish(struct conf *conf, struct conf_value *value);
/* Looks at the files that paths and secrets name. */
void conf_value_look(struct conf *conf, struct conf_value *value);
/* Name of a type and its range, for people. */
void conf_value_describe(struct buf *out, const struct conf_key *key);

/* What stands for an empty list between conf_scan() and libconfuse. */
#define CONF_EMPTY_LIST "\x01"
/* Makes of a file's text what libconfuse reads as we mean it; false after a fault. */
bool conf_scan(struct conf *conf, const char *file, struct slice text, struct buf *out);
/* Reads one file into conf; faults go to its errors. */
void conf_parse(struct conf *conf, const char *file, unsigned number, struct slice text);
