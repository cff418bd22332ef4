/* The section `queue`: what is refused with its reason, what comes out of it, keys of rewritten senders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/queue_settings.h"

static char folder[64];

static const char *file(const char *name, const char *text)
{
	static char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, 0600), 0);
	return path;
}

static int load(const char *text, struct buf *why, struct config **config_out)
{
	struct conf *conf;
	int err = conf_load_text(&config_table, "test.conf", slice_str(text), why, &conf);

	return err ? err : config_new(conf, why, config_out);
}

static void test_what_is_refused(void **state)
{
	static const struct {
		const char *keys, *content, *want; /* content: of FILE; want NULL: good */
	} rows[] = {
		{"", "", NULL},
		{"retry-first = 1h\nretry-most = 1m", "", "longer than retry-most"},
		{"postmaster = nobody", "", "no plain address"},
		{"notice-from = \"a <b@c>\"", "", "no plain address"},
		{"failure-template = \"FILE\"", "Subject: x\n\nhello ${sender}\n", NULL},
		{"failure-template = \"FILE\"", "hello\n${nobody}\n", "${word}"},
		{"delay-template = /nowhere/at/all", "", "No such file"},
		{"srs-domain = srs.example", "", "needs srs-keys"},
		{"srs-domain = srs.example\nsrs-keys = \"FILE\"", "# ours\n0123456789abcdef\n", NULL},
		{"srs-domain = srs.example\nsrs-keys = \"FILE\"", "short\n", "at least 16"},
		{"srs-domain = srs.example\nsrs-keys = \"FILE\"", "# none\n", "no key"},
		{"srs-domain = \"no domain\"\nsrs-keys = \"FILE\"", "0123456789abcdef\n", "no domain name"},
		{"tries = 0", "", "tries"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct config *c = NULL;
		struct buf why = {0}, text = {0};
		const char *at = strstr(rows[i].keys, "FILE");
		int err;

		buf_add_str(&text, "queue {\n");
		if (at)
			buf_printf(&text, "%.*s%s%s", (int)(at - rows[i].keys), rows[i].keys,
				file("f", rows[i].content), at + 4);
		else
			buf_add_str(&text, rows[i].keys);
		buf_add_str(&text, "\n}\n");
		err = load(buf_str_view(&text), &why, &c);
		if (!err != !rows[i].want || (err && !strstr(buf_str_view(&why), rows[i].want)))
			fail_msg("row %zu: %s", i, buf_str_view(&why));
		if (!err)
			config_unref(&c);
		buf_deinit(&why);
		buf_deinit(&text);
	}
}

static void test_what_comes_out(void **state)
{
	struct buf why = {0}, texts[3] = {0}, text = {0}, out = {0};
	struct queue_settings settings;
	struct config *c = NULL;
	struct srs *srs;

	(void)state;
	buf_printf(&text, "queue {\nsrs-domain = srs.example\nsrs-keys = \"%s\"\n",
		file("keys", "0123456789abcdef\n"));
	buf_printf(&text, "tries = 3\nretry-first = 2m\nfailure-template = \"%s\"\n}\n", file("t", "hello"));
	assert_int_equal(load(buf_str_view(&text), &why, &c), 0);
	queue_settings_read(c, texts, &settings);
	assert_int_equal(settings.plan.tries, 3);
	assert_int_equal(settings.plan.retry_first, 120000);
	assert_int_equal(settings.plan.retry_most, 8 * 3600000);
	assert_int_equal(settings.plan.lifetime, UINT64_C(5) * 86400000);
	assert_int_equal(settings.plan.warning, 4 * 3600000);
	assert_string_equal(settings.failure_text, "hello");
	assert_string_equal(settings.delay_text, "");
	assert_int_equal(queue_settings_srs(c->conf, &srs), 0);
	assert_non_null(srs);
	assert_int_equal(srs_forward(srs, SLICE_LIT("a"), SLICE_LIT("b.example"), 0, &out), 0);
	assert_non_null(strstr(buf_str_view(&out), "@srs.example"));
	srs_free(&srs);
	/* A file that went away since: what was in force stays, and the program goes on. */
	unlink(file("keys", ""));
	unlink(file("t", ""));
	assert_int_equal(queue_settings_srs(c->conf, &srs), ERR_CONFIG);
	for (size_t i = 0; i < 3; i++)
		buf_clear(&texts[i]);
	queue_settings_read(c, texts, &settings);
	assert_string_equal(settings.failure_text, "");
	config_unref(&c);
	for (size_t i = 0; i < 3; i++)
		buf_deinit(&texts[i]);
	buf_deinit(&why);
	buf_deinit(&text);
	buf_deinit(&out);
}

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/mailtier-queue-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	unlink(file("f", ""));
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_what_comes_out),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
