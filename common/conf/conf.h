/*
 * Configuration: files read through libconfuse, held against ONE table of keys that each program supplies. A
 * new key is one row of that table and one conf_get_*() where it is used; documentation, defaults, ranges and
 * reloading follow.
 *
 * A table has sections and keys. Section "" is the top of the file; a titled section may stand there many
 * times
 * (`listener imaps { ... }`), an untitled one once (`limits { ... }`). A struct conf holds the values of all
 * files that were read, in order: scalar keys replace, sections of the same title merge, lists replace. It is
 * written while it is loaded, by one thread; afterwards it is constant and any thread may read it. Everything
 * it hands out is a view that lives as long as it does.
 *
 * Every fault of a file is collected as "FILE:LINE: KEY: reason", so that one run shows all of them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

enum conf_type {
	CONF_BOOL,      /* yes, no (also true, false, on, off) */
	CONF_INT,       /* 0 and above, within min..max */
	CONF_SIZE,      /* bytes with a unit: 64K, 10M */
	CONF_DURATION,  /* with a unit: 500ms, 30s, 5m; a bare number is seconds; min and max are milliseconds
			 */
	CONF_STRING,    /* text without control characters */
	CONF_ENUM,      /* one word of `choices` */
	CONF_LIST,      /* list of strings; each one of `choices`, if there are any */
	CONF_ADDRESSES, /* list of host:port, [v6]:port, *:port, /unix/path; min 1: the port must stand there
			 */
	CONF_NETWORKS,  /* list of 10.0.0.0/8, 2001:db8::/32, bare addresses, "unix" */
	CONF_PATH,  /* a file's name; relative ones are relative to the folder of the file that names them */
	CONF_SECRET /* the name of a file of mode 0600 or tighter; its first line is the value */
};

enum conf_flag {
	CONF_RELOAD = 1,   /* a reload may change it; for a section: sections may come and go */
	CONF_REQUIRED = 2, /* has no default: must be set (in every section of that name) */
	CONF_EXISTS = 4,   /* CONF_PATH: must be a readable file */
	CONF_PRIVATE = 8,  /* CONF_PATH: CONF_EXISTS, and mode 0600 or tighter */
	CONF_TITLED = 16   /* section: has a title */
};

/*
 * One key. `def` is written as in a file ("30s", "64K", "yes"; lists: words separated by blanks; "" for an
 * empty list or string); NULL: no default (conf_is_set() tells). A range of 0..0 is none.
 */
struct conf_key {
	const char *section; /* "" for the top; NULL ends a table */
	const char *name;
	enum conf_type type;
	unsigned flags;
	const char *def;
	uint64_t min, max;
	const char *choices; /* words separated by blanks */
	const char *doc;     /* one line, no full stop needed */
	const char *titles;  /* titled section: only under these titles (words); NULL: under all */
};

struct conf_section {
	const char *name;   /* NULL ends the table; "" (the top) is always there, with or without a row */
	unsigned flags;     /* CONF_TITLED, CONF_RELOAD */
	const char *titles; /* the titles that there are (words), each present with its defaults even if no
			       file names it; NULL: any title, present when a file names it */
	const char *doc;
};

struct conf;

struct conf_table {
	const char *program;                 /* "mailtier-proxy" */
	const char *file;                    /* "/etc/mailtier/proxy.conf" */
	const struct conf_section *sections; /* in the order of the documentation */
	const struct conf_key *const *keys;  /* NULL-ended list of tables: rooms bring their own */
	void (*check)(
		struct conf *conf); /* what single keys cannot show; calls conf_error(); NULL: nothing */
};

/*
 * Reads the files in order, checks everything, and gives the whole; or refuses the whole with ERR_CONFIG
 * (bad) or ERR_IO (a file cannot be read) and appends the reasons to why, a line each.
 */
MUST_CHECK int conf_load(const struct conf_table *table, const char *const *files, size_t count,
	struct buf *why, struct conf **conf_out);
/* The same from memory, under the given file name: tests. */
MUST_CHECK int conf_load_text(const struct conf_table *table, const char *name, struct slice text,
	struct buf *why, struct conf **conf_out);
/*
 * Loads again the files of `old`; on success the new configuration has the old values for all that is not
 * marked CONF_RELOAD, and notes has a line for each such key that was changed in the files. On failure
 * nothing is changed.
 */
MUST_CHECK int conf_reload(
	const struct conf *old, struct buf *why, struct buf *notes, struct conf **conf_out);
void conf_free(struct conf **conf);

/* In check(), and for faults found when a value is used at start: adds "FILE:LINE: KEY: reason". title NULL:
 * untitled. */
void conf_error(struct conf *conf, const char *section, const char *title, const char *key,
	const char *format, ...) PRINTF_LIKE(5, 6);
/* "FILE:LINE" of a key, of its section if the file does not set it, or "default". View until the next call of
 * this thread. */
const char *conf_where(const struct conf *conf, const char *section, const char *title, const char *key);

/*
 * Values. section "" and title NULL for the top. Asking for a key that is not in the table, or by the wrong
 * type, or under a title that there is not, is our mistake and ends the program. A key without default that
 * is not set reads as 0, "" or an empty list.
 */
bool conf_is_set(const struct conf *conf, const char *section, const char *title, const char *key);
bool conf_get_bool(const struct conf *conf, const char *section, const char *title, const char *key);
uint64_t conf_get_int(const struct conf *conf, const char *section, const char *title, const char *key);
uint64_t conf_get_size(const struct conf *conf, const char *section, const char *title, const char *key);
/* Milliseconds. */
uint64_t conf_get_duration(const struct conf *conf, const char *section, const char *title, const char *key);
/* CONF_STRING and CONF_PATH. */
const char *conf_get_string(const struct conf *conf, const char *section, const char *title, const char *key);
/* Position of the word in `choices`, from 0; -1 when not set. */
int conf_get_enum(const struct conf *conf, const char *section, const char *title, const char *key);
/* The secret itself (not the file's name); empty when not set. */
struct slice conf_get_secret(
	const struct conf *conf, const char *section, const char *title, const char *key);
/* CONF_LIST and CONF_NETWORKS: NULL-terminated. */
const char *const *conf_get_list(
	const struct conf *conf, const char *section, const char *title, const char *key, size_t *count_out);
struct conf_address {
	const char *host; /* an IP address; a path for a unix socket */
	uint16_t port;    /* 0: not given */
	bool may_lack; /* the second half of "*", which is 0.0.0.0 and ::; a host without IPv6 does without it */
};
const struct conf_address *conf_get_addresses(
	const struct conf *conf, const char *section, const char *title, const char *key, size_t *count_out);
/* Titles of a titled section, in order of the files; NULL-terminated. */
const char *const *conf_titles(const struct conf *conf, const char *section, size_t *count_out);
bool conf_has_title(const struct conf *conf, const char *section, const char *title);

/* Every key with default and documentation, as a file that loads. Titled sections of free title are comments.
 */
void conf_print_defaults(const struct conf_table *table, FILE *out);
/* The same for docs/configuration.md. */
void conf_print_docs(const struct conf_table *table, FILE *out);
/* What is in force and from where: for --check. Secrets are not shown. */
void conf_print(const struct conf *conf, FILE *out);

/*
 * The command line that both programs share: -c FILE, --conf FILE (again and again, read after -c in order),
 * --check,
 * --print-defaults, --print-docs, --version, --help. Gives the loaded configuration, or ends the program with
 * its exit status: 0 after the printing options and a good --check, 1 bad configuration, 64 usage. Options
 * that are not these: usage. `more` is text for --help on what the program takes besides.
 */
struct conf *conf_command_line(const struct conf_table *table, int argc, char **argv, const char *more);
