/*
 * libconfuse, and what it lacks. It is given the table as options that are all strings or lists of strings;
 * as it meets each value it calls back with the line, and the value is written into our own structs there. So
 * types, ranges and units are ours, and a key or section that stands twice in one file is seen, which
 * libconfuse would take silently.
 *
 * Its parser has global state and its callbacks no argument: configuration is read by one thread at a time.
 */
#include "common/conf/conf_internal.h"

#include <confuse.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

static struct {
	struct conf *conf;
	const char *file;
	unsigned number;
} reading;

/* "no such option 'x'" and its like, said in our words. */
static void on_error(cfg_t *cfg, const char *format, va_list args)
{
	static const char unknown[] = "no such option '", twice[] = "found duplicate title '";
	char text[256];
	char *end;

	vsnprintf(text, sizeof(text), format, args);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = '?';
	end = strrchr(text, '\'');
	if (strncmp(text, unknown, sizeof(unknown) - 1) == 0 && end > text + sizeof(unknown) - 1) {
		*end = '\0';
		conf_fault(reading.conf, reading.file, cfg->line, text + sizeof(unknown) - 1,
			"unknown key%s%s", strcmp(cfg->name, "root") == 0 ? " or section" : " in section ",
			strcmp(cfg->name, "root") == 0 ? "" : cfg->name);
		return;
	}
	if (strncmp(text, twice, sizeof(twice) - 1) == 0 && end > text + sizeof(twice) - 1) {
		*end = '\0';
		conf_fault(reading.conf, reading.file, cfg->line, NULL,
			"a section with the title \"%s\" stands there already; in one file each stands once",
			text + sizeof(twice) - 1);
		return;
	}
	conf_fault(reading.conf, reading.file, cfg->line, NULL, "%s", text);
}

static bool is_good_title(const char *title)
{
	size_t n = strspn(title, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-");

	return n > 0 && n <= CONF_TITLE_MOST && title[n] == '\0';
}

/* Tells of a title that cannot be; at the end of its section, once. */
static void tell_of_title(const cfg_t *cfg, const struct conf_section *section, bool is_good)
{
	if (!is_good)
		conf_fault(reading.conf, reading.file, cfg->line, section->name,
			"the title must be 1 to %d of A-Z a-z 0-9 . _ @ -", CONF_TITLE_MOST);
	else
		conf_fault(reading.conf, reading.file, cfg->line, section->name, "\"%s\" is none of: %s",
			cfg->title, section->titles);
}

/* The group of a section that libconfuse is in; NULL when its title cannot be, told at the section's end. */
static struct conf_group *group_of(cfg_t *cfg, bool at_end)
{
	bool top = strcmp(cfg->name, "root") == 0;
	const struct conf_section *section =
		top ? &conf_top : conf_find_section(reading.conf->table, cfg->name);
	bool is_good = !cfg->title || is_good_title(cfg->title);
	struct conf_group *group;

	require(section);
	if (!is_good ||
		(cfg->title && section->titles && !conf_has_word(section->titles, cfg->title, NULL))) {
		if (at_end)
			tell_of_title(cfg, section, is_good);
		return NULL;
	}
	group = conf_make_group(reading.conf, section, cfg->title);
	if (!top && group->read_in != reading.number) {
		group->read_in = reading.number;
		group->file = reading.file;
		group->line = cfg->line;
	}
	return group;
}

static struct conf_value *find_value(cfg_t *cfg, const char *name)
{
	struct conf_group *group = group_of(cfg, false);
	struct conf_value *value = group ? conf_find_value(group, name) : NULL;

	if (value && !conf_is_key_of(value->key, group->section, group->title)) {
		conf_fault(reading.conf, reading.file, cfg->line, name, "is no key of %s %s",
			group->section->name, group->title);
		return NULL;
	}
	return value;
}

/* A key begins: the first one of its name in this file, or a fault. */
static bool begin_value(cfg_t *cfg, struct conf_value *value)
{
	if (value->read_in == reading.number) {
		conf_fault(reading.conf, reading.file, cfg->line, value->key->name,
			"stands twice in this file (first in line %d)", value->line);
		return false;
	}
	value->read_in = reading.number;
	value->is_set = true;
	value->file = reading.file;
	value->line = cfg->line;
	conf_value_clear(value);
	return true;
}

/* Each value as it is met; the first one after "=" is libconfuse's only one so far. The result only keeps it
 * content. */
static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *text, void *result)
{
	struct conf_value *value = find_value(cfg, opt->name);

	*(const char **)result = text;
	if (!value || (cfg_opt_size(opt) == 1 && !begin_value(cfg, value)))
		return 0;
	if (strcmp(text, CONF_EMPTY_LIST) != 0)
		conf_value_add(reading.conf, value, slice_str(text));
	return 0;
}

/* The end of a section. */
static int on_section_end(cfg_t *cfg, cfg_opt_t *opt)
{
	cfg_t *section = cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1);

	if (!(opt->flags & CFGF_TITLE) && cfg_opt_size(opt) > 1)
		conf_fault(reading.conf, reading.file, cfg->line, opt->name,
			"this section stands twice in this file");
	else
		group_of(section, true);
	return 0;
}

/* The options of one section; ends with CFG_END. */
static cfg_opt_t *make_options(const struct conf_table *table, const char *section, size_t more)
{
	struct conf_cursor at = {0};
	const struct conf_key *key;
	size_t count = 0;
	cfg_opt_t *options;

	while ((key = conf_next_key(table, &at)))
		count += strcmp(key->section, section) == 0;
	options = xcalloc(count + more + 1, sizeof(*options));
	count = 0;
	at = (struct conf_cursor){0};
	while ((key = conf_next_key(table, &at))) {
		cfg_opt_t one = CFG_STR_CB(key->name, NULL, CFGF_NODEFAULT, on_value);

		if (strcmp(key->section, section) != 0)
			continue;
		if (key->type == CONF_LIST || key->type == CONF_ADDRESSES || key->type == CONF_NETWORKS)
			one.flags |= CFGF_LIST;
		options[count++] = one;
	}
	options[count] = (cfg_opt_t)CFG_END();
	return options;
}

static size_t count_options(const cfg_opt_t *options)
{
	size_t n = 0;

	while (options[n].name)
		n++;
	return n;
}

static void finish_values(struct conf *conf, unsigned number)
{
	for (struct conf_group *g = conf->groups; g; g = g->next)
		for (size_t i = 0; i < g->count; i++)
			if (g->values[i].read_in == number)
				conf_value_finish(conf, &g->values[i]);
}

/* Runs libconfuse over scanned text with these options. */
static void run(struct conf *conf, cfg_opt_t *options, struct slice text)
{
	cfg_t *cfg = cfg_init(options, CFGF_NONE);
	FILE *in = fmemopen((void *)text.p, text.len, "r");
	size_t before = buf_len(&conf->errors);

	if (!cfg || !in) {
		conf_fault(conf, reading.file, 0, NULL, "no memory");
	} else {
		cfg_set_error_function(cfg, on_error);
		if (cfg_parse_fp(cfg, in) != CFG_SUCCESS && buf_len(&conf->errors) == before)
			conf_fault(conf, reading.file, cfg->line, NULL, "cannot be understood");
	}
	if (in)
		fclose(in);
	if (cfg)
		cfg_free(cfg);
}

void conf_parse(struct conf *conf, const char *file, unsigned number, struct slice text)
{
	const struct conf_section *sections = conf->table->sections;
	size_t section_count = 0, n;
	cfg_opt_t *options, **inner;
	struct buf scanned;

	buf_init(&scanned, 4 * CONF_FILE_MOST);
	if (!conf_scan(conf, file, text, &scanned) || buf_len(&scanned) == 0) {
		buf_deinit(&scanned);
		return;
	}
	while (sections && sections[section_count].name)
		section_count++;
	options = make_options(conf->table, "", section_count);
	inner = xcalloc(section_count + 1, sizeof(*inner));
	n = count_options(options);
	for (size_t i = 0; i < section_count; i++) {
		if (sections[i].name[0] == '\0')
			continue;
		inner[i] = make_options(conf->table, sections[i].name, 0);
		cfg_opt_t one = CFG_SEC(sections[i].name, inner[i], CFGF_MULTI);

		if (sections[i].flags & CONF_TITLED)
			one.flags |= CFGF_TITLE | CFGF_NO_TITLE_DUPES;
		one.validcb = on_section_end;
		options[n++] = one;
	}
	options[n] = (cfg_opt_t)CFG_END();
	reading.conf = conf;
	reading.file = file;
	reading.number = number;
	run(conf, options, buf_view(&scanned));
	finish_values(conf, number);
	reading.conf = NULL;
	for (size_t i = 0; i < section_count; i++)
		free(inner[i]);
	free(inner);
	free(options);
	buf_deinit(&scanned);
}
