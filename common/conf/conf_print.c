/*
 * A table as text: the defaults as a file, the pages of documentation, and what is in force.
 */
#include <string.h>

#include "common/base/buf.h"
#include "common/conf/conf_internal.h"

/* A word as a file takes it: in quotes, so that no character means anything. */
static void print_word(FILE *out, const char *word)
{
	fputc('"', out);
	for (const char *p = word; *p; p++) {
		if (*p == '"' || *p == '\\' || *p == '$')
			fputc('\\', out);
		fputc(*p, out);
	}
	fputc('"', out);
}

static bool is_list(const struct conf_key *key)
{
	return key->type == CONF_LIST || key->type == CONF_ADDRESSES || key->type == CONF_NETWORKS;
}

/* Numbers and words of fixed meaning stand bare. */
static bool is_bare(const struct conf_key *key)
{
	return key->type != CONF_STRING && key->type != CONF_PATH && key->type != CONF_SECRET;
}

static void print_default(FILE *out, const struct conf_key *key)
{
	const char *at = key->def ? key->def : "";

	if (!is_list(key)) {
		if (is_bare(key) && at[0])
			fputs(at, out);
		else
			print_word(out, at);
		return;
	}
	fputc('{', out);
	for (bool first = true; *(at += strspn(at, " ")); first = false) {
		size_t len = strcspn(at, " ");

		fprintf(out, "%s\"%.*s\"", first ? "" : ", ", (int)len, at);
		at += len;
	}
	fputc('}', out);
}

static const char *reload_words(const struct conf_key *key)
{
	return key->flags & CONF_RELOAD ? "reload" : "restart";
}

/* A key with its documentation. A key without default, or of a section that is only an example, is a comment.
 */
static void print_key(FILE *out, const struct conf_key *key, const char *indent, bool example)
{
	struct buf text = {0};

	conf_value_describe(&text, key);
	fprintf(out, "%s# %s.\n%s# %s; %s%s\n", indent, key->doc, indent, buf_str_view(&text),
		reload_words(key), key->flags & CONF_REQUIRED ? "; must be set" : "");
	buf_deinit(&text);
	fprintf(out, "%s%s%s = ", indent, example || !key->def ? "#" : "", key->name);
	print_default(out, key);
	fputs("\n\n", out);
}

static void print_section(const struct conf_table *table, const struct conf_section *section,
	const char *title, bool example, FILE *out)
{
	struct conf_cursor at = {0};
	const struct conf_key *key;
	const char *mark = example ? "#" : "";

	fprintf(out, "%s%s%s%s {\n", mark, section->name, title ? " " : "", title ? title : "");
	while ((key = conf_next_key(table, &at)))
		if (conf_is_key_of(key, section, title))
			print_key(out, key, "\t", example);
	fprintf(out, "%s}\n\n", mark);
}

void conf_print_defaults(const struct conf_table *table, FILE *out)
{
	struct conf_cursor at = {0};
	const struct conf_key *key;

	fprintf(out,
		"# Configuration of %s (%s): every key with its default.\n"
		"# reload: changes with SIGHUP; restart: changes by a hand-over or start.\n\n",
		table->program, table->file);
	while ((key = conf_next_key(table, &at)))
		if (key->section[0] == '\0')
			print_key(out, key, "", false);
	for (const struct conf_section *s = table->sections; s && s->name; s++) {
		const char *titles = s->titles;

		if (s->name[0] == '\0')
			continue;
		fprintf(out, "# ---- %s: %s ----\n", s->name, s->doc);
		if (!(s->flags & CONF_TITLED)) {
			print_section(table, s, NULL, false, out);
		} else if (!titles) {
			print_section(table, s, "NAME", true, out);
		} else {
			while (*(titles += strspn(titles, " "))) {
				char title[CONF_TITLE_MOST + 1] = "";
				size_t len = strcspn(titles, " ");

				memcpy(title, titles, len < CONF_TITLE_MOST ? len : CONF_TITLE_MOST);
				print_section(table, s, title, false, out);
				titles += len;
			}
		}
	}
}

/* Table cells must not hold a bar. */
static void print_cell(FILE *out, const char *text)
{
	for (const char *p = text; *p; p++) {
		if (*p == '|')
			fputc('\\', out);
		fputc(*p, out);
	}
}

static void print_doc_key(FILE *out, const struct conf_key *key)
{
	struct buf text = {0};

	conf_value_describe(&text, key);
	fprintf(out, "| `%s` | ", key->name);
	print_cell(out, buf_str_view(&text));
	buf_deinit(&text);
	fputs(" | ", out);
	if (key->flags & CONF_REQUIRED) {
		fputs("must be set", out);
	} else if (key->def && key->def[0]) {
		fputc('`', out);
		print_cell(out, key->def);
		fputc('`', out);
	} else {
		fputs("none", out);
	}
	fprintf(out, " | %s | ", reload_words(key));
	print_cell(out, key->doc);
	if (key->titles) {
		fputs(" (only: ", out);
		print_cell(out, key->titles);
		fputc(')', out);
	}
	fputs(" |\n", out);
}

static void print_doc_keys(const struct conf_table *table, const char *section, FILE *out)
{
	struct conf_cursor at = {0};
	const struct conf_key *key;
	bool any = false;

	while ((key = conf_next_key(table, &at))) {
		if (strcmp(key->section, section) != 0)
			continue;
		if (!any)
			fputs("| key | value | default | changes by | meaning |\n|---|---|---|---|---|\n",
				out);
		any = true;
		print_doc_key(out, key);
	}
	if (any)
		fputc('\n', out);
}

void conf_print_docs(const struct conf_table *table, FILE *out)
{
	fprintf(out, "## %s\n\nFile: `%s`\n\n", table->program, table->file);
	print_doc_keys(table, "", out);
	for (const struct conf_section *s = table->sections; s && s->name; s++) {
		if (s->name[0] == '\0')
			continue;
		fprintf(out, "### `%s%s { }`\n\n%s.", s->name,
			!(s->flags & CONF_TITLED) ? ""
			: s->titles               ? " TITLE"
						  : " NAME",
			s->doc);
		if (s->titles)
			fprintf(out, " Titles: %s.", s->titles);
		if (s->flags & CONF_TITLED && !s->titles)
			fprintf(out, " Sections come and go by %s.",
				s->flags & CONF_RELOAD ? "reload" : "restart");
		fputs("\n\n", out);
		print_doc_keys(table, s->name, out);
	}
}

static void print_value(FILE *out, const struct conf_value *value, const char *indent)
{
	const struct conf_key *key = value->key;

	fprintf(out, "%s%s = ", indent, key->name);
	if (is_list(key))
		fputc('{', out);
	for (size_t i = 0; i < value->count; i++) {
		if (i)
			fputs(", ", out);
		if (is_bare(key) && !is_list(key))
			fputs(value->words[i], out);
		else
			print_word(out, value->words[i]);
	}
	if (is_list(key))
		fputc('}', out);
	fprintf(out, "\t# %s:%d\n", value->file, value->line);
}

void conf_print(const struct conf *conf, FILE *out)
{
	for (const struct conf_group *g = conf->groups; g; g = g->next) {
		bool top = g->section->name[0] == '\0';

		if (!top && !g->file)
			continue;
		if (!top)
			fprintf(out, "%s%s%s {\t# %s:%d\n", g->section->name, g->title ? " " : "",
				g->title ? g->title : "", g->file, g->line);
		for (size_t i = 0; i < g->count; i++)
			if (g->values[i].is_set)
				print_value(out, &g->values[i], top ? "" : "\t");
		if (!top)
			fputs("}\n", out);
	}
}
