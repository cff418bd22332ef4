/*
 * Loading, reloading and asking. A configuration is a list of groups (the top, untitled sections, one for
 * each title), each with a value for every key of its section, defaults first. Files write over it in order;
 * then everything that needs the whole is checked: required keys, named files, the program's own check.
 */
#include "common/conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/conf/conf_internal.h"

const struct conf_section conf_top = {"", 0, NULL, ""};

/* ---- the table ---- */

const struct conf_key *conf_next_key(const struct conf_table *table, struct conf_cursor *at)
{
	while (table->keys[at->table]) {
		const struct conf_key *key = &table->keys[at->table][at->row];

		if (key->section) {
			at->row++;
			return key;
		}
		at->table++;
		at->row = 0;
	}
	return NULL;
}

const struct conf_section *conf_find_section(const struct conf_table *table, const char *name)
{
	if (name[0] == '\0')
		return &conf_top;
	for (const struct conf_section *s = table->sections; s && s->name; s++)
		if (strcmp(s->name, name) == 0)
			return s;
	return NULL;
}

/* The next blank-separated word of *at; empty at the end. */
static struct slice next_word(const char **at)
{
	const char *start = *at + strspn(*at, " ");
	size_t len = strcspn(start, " ");

	*at = start + len;
	return slice_of(start, len);
}

bool conf_has_word(const char *words, const char *word, int *position_out)
{
	struct slice one;
	int i = 0;

	while (words && (one = next_word(&words)).len) {
		if (slice_is_str(one, word)) {
			if (position_out)
				*position_out = i;
			return true;
		}
		i++;
	}
	return false;
}

bool conf_is_key_of(const struct conf_key *key, const struct conf_section *section, const char *title)
{
	return strcmp(key->section, section->name) == 0 &&
	       (!key->titles || !title || conf_has_word(key->titles, title, NULL));
}

/* ---- groups and values ---- */

struct conf_group *conf_find_group(const struct conf *conf, const char *section, const char *title)
{
	for (struct conf_group *g = conf->groups; g; g = g->next)
		if (strcmp(g->section->name, section) == 0 &&
			(title ? g->title && strcmp(g->title, title) == 0 : !g->title))
			return g;
	return NULL;
}

struct conf_value *conf_find_value(const struct conf_group *group, const char *key)
{
	for (size_t i = 0; i < group->count; i++)
		if (strcmp(group->values[i].key->name, key) == 0)
			return &group->values[i];
	return NULL;
}

static void set_default(struct conf *conf, struct conf_value *value, const struct conf_key *key)
{
	const char *def = key->def;
	struct slice word;

	value->key = key;
	value->choice = -1;
	if (!def)
		return;
	if (key->type == CONF_LIST || key->type == CONF_ADDRESSES || key->type == CONF_NETWORKS)
		while ((word = next_word(&def)).len)
			conf_value_add(conf, value, word);
	else
		conf_value_add(conf, value, slice_str(def));
	conf_value_finish(conf, value);
}

struct conf_group *conf_make_group(struct conf *conf, const struct conf_section *section, const char *title)
{
	struct conf_group *group = conf_find_group(conf, section->name, title), **last = &conf->groups;
	struct conf_cursor at = {0};
	const struct conf_key *key;

	if (group)
		return group;
	group = arena_calloc(&conf->arena, 1, sizeof(*group));
	require(group);
	group->section = section;
	if (title)
		group->title = arena_copy_str(&conf->arena, slice_str(title));
	while ((key = conf_next_key(conf->table, &at)))
		group->count += strcmp(key->section, section->name) == 0;
	group->values = arena_calloc(&conf->arena, group->count + 1, sizeof(*group->values));
	require(group->values);
	at = (struct conf_cursor){0};
	for (size_t i = 0; (key = conf_next_key(conf->table, &at));)
		if (strcmp(key->section, section->name) == 0)
			set_default(conf, &group->values[i++], key);
	while (*last)
		last = &(*last)->next;
	*last = group;
	return group;
}

void conf_fault(struct conf *conf, const char *file, int line, const char *key, const char *format, ...)
{
	struct buf *out = &conf->errors;
	va_list args;

	if (file && line > 0)
		buf_printf(out, "%s:%d: ", file, line);
	else
		buf_printf(out, "%s: ", file ? file : "default");
	if (key)
		buf_printf(out, "%s: ", key);
	va_start(args, format);
	buf_vprintf(out, format, args);
	va_end(args);
	buf_add_char(out, '\n');
}

/* ---- loading ---- */

static struct conf *new_conf(const struct conf_table *table, const char *const *files, size_t count)
{
	struct conf *conf = xcalloc(1, sizeof(*conf));

	conf->table = table;
	arena_init(&conf->arena, 0);
	buf_init(&conf->errors, CONF_ERRORS_MOST);
	conf->files = xcalloc(count + 1, sizeof(*conf->files));
	conf->file_count = count;
	for (size_t i = 0; i < count; i++) {
		conf->files[i] = arena_copy_str(&conf->arena, slice_str(files[i]));
		require(conf->files[i]);
	}
	conf_make_group(conf, &conf_top, NULL);
	for (const struct conf_section *s = table->sections; s && s->name; s++) {
		const char *titles = s->titles;
		struct slice title;

		if (!(s->flags & CONF_TITLED))
			conf_make_group(conf, s, NULL);
		while (titles && (title = next_word(&titles)).len) {
			char *text = slice_copy_str(title);

			conf_make_group(conf, s, text);
			free(text);
		}
	}
	return conf;
}

void conf_free(struct conf **conf)
{
	if (!*conf)
		return;
	for (struct conf_group *g = (*conf)->groups; g; g = g->next)
		for (size_t i = 0; i < g->count; i++)
			secret_deinit(&g->values[i].secret);
	buf_deinit(&(*conf)->errors);
	arena_deinit(&(*conf)->arena);
	free((*conf)->files);
	free(*conf);
	*conf = NULL;
}

static void parse_text(struct conf *conf, const char *file, unsigned number, struct slice text)
{
	if (text.len > CONF_FILE_MOST)
		conf_fault(conf, file, 0, NULL, "is larger than %u bytes", CONF_FILE_MOST);
	else if (text.len && memchr(text.p, '\0', text.len))
		conf_fault(conf, file, 0, NULL, "has a NUL byte");
	else
		conf_parse(conf, file, number, text);
}

static void parse_file(struct conf *conf, const char *file, unsigned number)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY), error = 0;
	struct buf text;
	ssize_t n = 0;
	char *room;

	if (fd < 0) {
		conf_fault(conf, file, 0, NULL, "%s", strerror(errno));
		conf->has_io_error = true;
		return;
	}
	buf_init(&text, CONF_FILE_MOST + 65536);
	while (buf_len(&text) <= CONF_FILE_MOST && (room = buf_reserve(&text, 16384)) &&
		(n = read(fd, room, 16384)) > 0)
		buf_added(&text, (size_t)n);
	error = n < 0 ? errno : 0;
	close(fd);
	if (error) {
		conf_fault(conf, file, 0, NULL, "%s", strerror(error));
		conf->has_io_error = true;
	} else {
		parse_text(conf, file, number, buf_view(&text));
	}
	buf_deinit(&text);
}

/* Lists the titles of each titled section, so that asking for them changes nothing. */
static void gather_titles(struct conf *conf)
{
	conf->titles = NULL;
	for (const struct conf_section *s = conf->table->sections; s && s->name; s++) {
		struct conf_titles *t = arena_calloc(&conf->arena, 1, sizeof(*t));

		require(t);
		for (const struct conf_group *g = conf->groups; g; g = g->next)
			t->count += g->section == s && g->title;
		t->titles = arena_calloc(&conf->arena, t->count + 1, sizeof(*t->titles));
		require(t->titles);
		t->count = 0;
		for (const struct conf_group *g = conf->groups; g; g = g->next)
			if (g->section == s && g->title)
				t->titles[t->count++] = g->title;
		t->section = s;
		t->next = conf->titles;
		conf->titles = t;
	}
}

/* What can be checked only when all files have been read. */
static void finish(struct conf *conf)
{
	for (struct conf_group *g = conf->groups; g; g = g->next)
		for (size_t i = 0; i < g->count; i++) {
			struct conf_value *value = &g->values[i];

			if ((value->key->flags & CONF_REQUIRED) && !value->is_set &&
				conf_is_key_of(value->key, g->section, g->title))
				conf_fault(conf,
					g->file            ? g->file
					: conf->file_count ? conf->files[0]
							   : NULL,
					g->line, value->key->name, "must be set%s%s%s%s",
					g->section->name[0] ? " in " : "", g->section->name,
					g->title ? " " : "", g->title ? g->title : "");
			else
				conf_value_look(conf, value);
		}
	gather_titles(conf);
	if (conf->table->check && buf_len(&conf->errors) == 0)
		conf->table->check(conf);
}

/* Gives the configuration, or its faults, and frees it. */
static int answer(struct conf *conf, struct buf *why, struct conf **conf_out)
{
	int error = conf->has_io_error ? ERR_IO : ERR_CONFIG;

	if (buf_len(&conf->errors) == 0) {
		*conf_out = conf;
		return 0;
	}
	buf_add_slice(why, buf_view(&conf->errors));
	conf_free(&conf);
	return error;
}

int conf_load(const struct conf_table *table, const char *const *files, size_t count, struct buf *why,
	struct conf **conf_out)
{
	struct conf *conf = new_conf(table, files, count);

	for (size_t i = 0; i < count; i++)
		parse_file(conf, conf->files[i], (unsigned)i + 1);
	if (buf_len(&conf->errors) == 0)
		finish(conf);
	return answer(conf, why, conf_out);
}

int conf_load_text(const struct conf_table *table, const char *name, struct slice text, struct buf *why,
	struct conf **conf_out)
{
	struct conf *conf = new_conf(table, &name, 1);

	parse_text(conf, conf->files[0], 1, text);
	if (buf_len(&conf->errors) == 0)
		finish(conf);
	return answer(conf, why, conf_out);
}

/* ---- reloading ---- */

static bool is_same(const struct conf_value *a, const struct conf_value *b)
{
	if (a->count != b->count || !secret_is_equal(secret_view(&a->secret), secret_view(&b->secret)))
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->words[i], b->words[i]) != 0)
			return false;
	return true;
}

/* Everything of `from` into conf's own memory. */
static void copy_value(struct conf *conf, struct conf_value *to, const struct conf_value *from)
{
	conf_value_clear(to);
	for (size_t i = 0; i < from->count; i++)
		conf_value_add(conf, to, slice_str(from->words[i]));
	to->is_set = from->is_set;
	to->line = from->line;
	to->file = from->file ? arena_copy_str(&conf->arena, slice_str(from->file)) : NULL;
	if (to->count)
		conf_value_finish(conf, to);
	secret_set(&to->secret, secret_view(&from->secret));
}

static void note(struct buf *notes, const struct conf_group *group, const char *key, const char *words)
{
	buf_printf(notes, "%s%s%s%s%s: %s\n", group->section->name, group->title ? " " : "",
		group->title ? group->title : "", group->section->name[0] && key[0] ? "." : "", key, words);
}

static void keep_values(
	struct conf *conf, struct conf_group *now, const struct conf_group *old, struct buf *notes)
{
	for (size_t i = 0; i < now->count; i++) {
		const struct conf_value *before = &old->values[i];

		if ((before->key->flags & CONF_RELOAD) || is_same(before, &now->values[i]))
			continue;
		note(notes, now, before->key->name,
			"changed in the file; in force by a hand-over or restart");
		copy_value(conf, &now->values[i], before);
	}
}

/* Puts the old values in the place of new ones where a reload may not change them. */
static void keep_what_stays(struct conf *conf, const struct conf *old, struct buf *notes)
{
	struct conf_group **at = &conf->groups;

	while (*at) {
		struct conf_group *now = *at;
		const struct conf_group *before = conf_find_group(old, now->section->name, now->title);

		if (before) {
			keep_values(conf, now, before, notes);
		} else if (!(now->section->flags & CONF_RELOAD)) {
			note(notes, now, "", "new in the file; in force by a hand-over or restart");
			for (size_t i = 0; i < now->count; i++)
				secret_deinit(&now->values[i].secret);
			*at = now->next;
			continue;
		}
		at = &now->next;
	}
	for (const struct conf_group *before = old->groups; before; before = before->next) {
		struct conf_group *copy;

		if ((before->section->flags & CONF_RELOAD) ||
			conf_find_group(conf, before->section->name, before->title))
			continue;
		note(notes, before, "", "gone from the file; in force by a hand-over or restart");
		copy = conf_make_group(conf, before->section, before->title);
		for (size_t i = 0; i < copy->count; i++)
			copy_value(conf, &copy->values[i], &before->values[i]);
	}
}

int conf_reload(const struct conf *old, struct buf *why, struct buf *notes, struct conf **conf_out)
{
	struct conf *conf;
	int error = conf_load(old->table, old->files, old->file_count, why, &conf);

	if (error)
		return error;
	keep_what_stays(conf, old, notes);
	gather_titles(conf);
	/* The mixture of old and new must be possible too. */
	if (conf->table->check)
		conf->table->check(conf);
	return answer(conf, why, conf_out);
}

/* ---- asking ---- */

void conf_error(
	struct conf *conf, const char *section, const char *title, const char *key, const char *format, ...)
{
	struct conf_group *group = conf_find_group(conf, section, title);
	struct conf_value *value = group && key ? conf_find_value(group, key) : NULL;
	bool own = value && value->file;
	struct buf text = {0};
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	if (own)
		conf_fault(conf, value->file, value->line, key, "%s", buf_str_view(&text));
	else
		conf_fault(conf,
			group && group->file ? group->file
			: conf->file_count   ? conf->files[0]
					     : NULL,
			group ? group->line : 0, key ? key : section, "%s", buf_str_view(&text));
	buf_deinit(&text);
}

const char *conf_where(const struct conf *conf, const char *section, const char *title, const char *key)
{
	static _Thread_local char text[512];
	const struct conf_group *group = conf_find_group(conf, section, title);
	const struct conf_value *value = group && key ? conf_find_value(group, key) : NULL;

	if (value && value->file)
		snprintf(text, sizeof(text), "%s:%d", value->file, value->line);
	else if (group && group->file)
		snprintf(text, sizeof(text), "%s:%d", group->file, group->line);
	else
		snprintf(text, sizeof(text), "default");
	return text;
}

static const struct conf_value *get(
	const struct conf *conf, const char *section, const char *title, const char *key)
{
	const struct conf_group *group = conf_find_group(conf, section, title);
	const struct conf_value *value = group ? conf_find_value(group, key) : NULL;

	require(value != NULL);
	return value;
}

bool conf_is_set(const struct conf *conf, const char *section, const char *title, const char *key)
{
	return get(conf, section, title, key)->is_set;
}

bool conf_get_bool(const struct conf *conf, const char *section, const char *title, const char *key)
{
	const struct conf_value *value = get(conf, section, title, key);

	require(value->key->type == CONF_BOOL);
	return value->number != 0;
}

uint64_t conf_get_int(const struct conf *conf, const char *section, const char *title, const char *key)
{
	const struct conf_value *value = get(conf, section, title, key);

	require(value->key->type == CONF_INT);
	return value->number;
}

uint64_t conf_get_size(const struct conf *conf, const char *section, const char *title, const char *key)
{
	const struct conf_value *value = get(conf, section, title, key);

	require(value->key->type == CONF_SIZE);
	return value->number;
}

uint64_t conf_get_duration(const struct conf *conf, const char *section, const char *title, const char *key)
{
	const struct conf_value *value = get(conf, section, title, key);

	require(value->key->type == CONF_DURATION);
	return value->number;
}

const char *conf_get_string(const struct conf *conf, const char *section, const char *title, const char *key)
{
	const struct conf_value *value = get(conf, section, title, key);

	require(value->key->type == CONF_STRING || value->key->type == CONF_PATH);
	if (value->key->type == CONF_PATH)
		return value->path ? value->path : "";
	return value->count ? value->words[0] : "";
}

int conf_get_enum(const struct conf *conf, const char *section, const char *title, const char *key)
{
	const struct conf_value *value = get(conf, section, title, key);

	require(value->key->type == CONF_ENUM);
	return value->choice;
}

struct slice conf_get_secret(const struct conf *conf, const char *section, const char *title, const char *key)
{
	const struct conf_value *value = get(conf, section, title, key);

	require(value->key->type == CONF_SECRET);
	return secret_view(&value->secret);
}

static const char *const no_words[] = {NULL};

const char *const *conf_get_list(
	const struct conf *conf, const char *section, const char *title, const char *key, size_t *count_out)
{
	const struct conf_value *value = get(conf, section, title, key);

	require(value->key->type == CONF_LIST || value->key->type == CONF_NETWORKS);
	if (count_out)
		*count_out = value->count;
	return value->count ? value->words : no_words;
}

const struct conf_address *conf_get_addresses(
	const struct conf *conf, const char *section, const char *title, const char *key, size_t *count_out)
{
	const struct conf_value *value = get(conf, section, title, key);

	require(value->key->type == CONF_ADDRESSES);
	*count_out = value->address_count;
	return value->addresses;
}

const char *const *conf_titles(const struct conf *conf, const char *section, size_t *count_out)
{
	for (const struct conf_titles *t = conf->titles; t; t = t->next)
		if (strcmp(t->section->name, section) == 0) {
			if (count_out)
				*count_out = t->count;
			return t->titles;
		}
	if (count_out)
		*count_out = 0;
	return no_words;
}

bool conf_has_title(const struct conf *conf, const char *section, const char *title)
{
	return conf_find_group(conf, section, title) != NULL;
}
