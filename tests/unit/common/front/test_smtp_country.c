/* Countries out of a real database, which tests/flow/mmdb.py writes: found, not found, replaced while it is in use, and damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/front/smtp_country.h"

static char path[64];

static void write_database(const char *words)
{
	char command[256];

	snprintf(command, sizeof(command), "python3 tests/flow/mmdb.py %s %s", path, words);
	assert_int_equal(system(command), 0);
}

static void find(struct smtp_country *c, const char *address, uint64_t now_ms, struct smtp_facts *facts)
{
	smtp_facts_init(facts);
	assert_int_equal(addr_parse(slice_str(address), 25, &facts->peer), 0);
	smtp_country_find(c, now_ms, facts);
}

static void expect(struct smtp_country *c, const char *address, uint64_t now_ms, const char *want)
{
	struct smtp_facts facts;

	find(c, address, now_ms, &facts);
	assert_int_equal(facts.country_state, want ? SMTP_FACT_KNOWN : SMTP_FACT_NONE);
	if (want)
		assert_string_equal(facts.country, want);
}

static void test_countries(void **state)
{
	struct smtp_country *c;
	struct smtp_facts facts;
	struct buf why = {0};
	FILE *f;

	(void)state;
	write_database("192.0.2.1=DE 198.51.100.9=FR");
	assert_int_equal(smtp_country_open(path, &why, &c), 0);
	expect(c, "192.0.2.1", 0, "DE");
	expect(c, "198.51.100.9", 0, "FR");
	expect(c, "::ffff:198.51.100.9", 0, "FR");
	expect(c, "198.51.100.8", 0, NULL);
	expect(c, "2001:db8::1", 0, NULL); /* a database of IPv4 alone */
	expect(c, "/run/x.sock", 0, NULL);
	/* Replaced: seen when it is looked at again. */
	write_database("192.0.2.1=AT");
	expect(c, "192.0.2.1", SMTP_COUNTRY_LOOK_MS - 1, "DE");
	expect(c, "192.0.2.1", SMTP_COUNTRY_LOOK_MS, "AT");
	/* Replaced by something that is none: the old one stays. */
	assert_int_equal(unlink(path), 0);
	f = fopen(path, "w");
	fputs("no database", f);
	fclose(f);
	expect(c, "192.0.2.1", 3 * SMTP_COUNTRY_LOOK_MS, "AT");
	smtp_country_close(&c);
	/* It cannot be opened at all: said at the start. Without one it cannot be said. */
	assert_int_equal(smtp_country_open(path, &why, &c), ERR_CONFIG);
	assert_true(slice_has_prefix(buf_view(&why), path));
	find(NULL, "192.0.2.1", 0, &facts);
	assert_int_equal(facts.country_state, SMTP_FACT_NOT_NOW);
	buf_deinit(&why);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_countries),
	};

	snprintf(path, sizeof(path), "/tmp/mt-country-%d.mmdb", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
