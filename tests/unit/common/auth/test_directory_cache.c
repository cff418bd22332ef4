/* What directories said, remembered: keys, ages, flushes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/auth/directory_cache.h"
#include "common/base/attr.h"

static void put(struct directory_cache *c, const struct directory_cache_question *q, const char *account)
{
	struct directory_cache_entry e = {.kind = DIRECTORY_CACHE_HIT, .is_checked = true};
	struct directory_cache_key key;

	snprintf(e.account, sizeof(e.account), "%s", account);
	snprintf(e.host, sizeof(e.host), "b1,b2");
	snprintf(e.dn, sizeof(e.dn), "uid=x");
	directory_cache_key(c, q, &key);
	directory_cache_put(c, &key, directory_cache_epoch(c), 1000, &e);
}

static const char *get(struct directory_cache *c, const struct directory_cache_question *q)
{
	static struct directory_cache_entry e;
	struct directory_cache_key key;
	uint64_t got;

	directory_cache_key(c, q, &key);
	if (!directory_cache_get(c, &key, &e, &got))
		return "none";
	assert_int_equal(got, 1000);
	assert_string_equal(e.host, "b1,b2");
	assert_string_equal(e.dn, "uid=x");
	return e.account;
}

#define Q(s, n, p, w)                                                                                        \
	{                                                                                                    \
		.service = SLICE_LIT(s), .name = SLICE_LIT(n), .password = SLICE_LIT(p), .wanted = (w)       \
	}

/* CVE-2025-30189: all users had the same key. Here every part of the question is in it, each with its length. */
static void test_security_07_the_key_is_the_whole_question(void **state)
{
	static const struct directory_cache_question first = Q("imap", "alice@x", "pw", 2);
	static const struct directory_cache_question others[] = {
		Q("imap", "bob@x", "pw", 2),
		Q("pop3", "alice@x", "pw", 2),
		Q("imap", "alice@x", "pw2", 2),
		Q("imap", "alice@x", "", 2),
		Q("imap", "alice@x", "pw", 1),
		Q("imap", "alice@x", "pw", 0),
		Q("imap", "alice@xp", "w", 2),
		Q("imapa", "lice@x", "pw", 2),
		Q("ima", "palice@x", "pw", 2),
		Q("imap", "", "alice@xpw", 2),
		Q("imap", "Alice@x", "pw", 2),
		Q("imap", "alice@x\0", "pw", 2),
		Q("imap", "alice@x", "pw\0", 2),
	};
	struct directory_cache *c = directory_cache_new(1000);
	struct directory_cache *other = directory_cache_new(1000);

	(void)state;
	put(c, &first, "alice");
	assert_string_equal(get(c, &first), "alice");
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		assert_string_equal(get(c, &others[i]), "none");
	/* Another map's cache. */
	assert_string_equal(get(other, &first), "none");
	directory_cache_free(&c);
	directory_cache_free(&other);
}

static void test_flush_forgets_one_or_all(void **state)
{
	static const struct directory_cache_question alice = Q("imap", "alice@x", "pw", 2),
						     alice_pop = Q("pop3", "alice@x", "", 1),
						     bob = Q("imap", "bob@x", "pw", 2);
	struct directory_cache *c = directory_cache_new(1000);
	struct directory_cache_entry e = {.kind = DIRECTORY_CACHE_NONE};
	struct directory_cache_key key;
	uint64_t before;

	(void)state;
	put(c, &alice, "alice");
	put(c, &alice_pop, "alice");
	put(c, &bob, "bob");
	assert_int_equal(directory_cache_count(c), 3);
	before = directory_cache_epoch(c);
	directory_cache_flush(c, SLICE_LIT("alice@x"));
	assert_string_equal(get(c, &alice), "none");
	assert_string_equal(get(c, &alice_pop), "none");
	assert_string_equal(get(c, &bob), "bob");
	/* What was asked before the flush is not put after it. */
	directory_cache_key(c, &alice, &key);
	directory_cache_put(c, &key, before, 1000, &e);
	assert_string_equal(get(c, &alice), "none");
	directory_cache_flush(c, slice_of(NULL, 0));
	assert_int_equal(directory_cache_count(c), 0);
	directory_cache_free(&c);
}

static void test_it_is_bounded(void **state)
{
	struct directory_cache *c = directory_cache_new(1000);
	char name[20];

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		struct directory_cache_question q = Q("imap", "", "", 1);

		snprintf(name, sizeof(name), "u%u", i);
		q.name = slice_str(name);
		put(c, &q, name);
		assert_string_equal(get(c, &q), name);
	}
	assert_in_range(directory_cache_count(c), 500, 2048);
	directory_cache_free(&c);
}

/* While the directory is away, who is remembered must still be: whoever has asked for many others before. */
/* How many of these users are there. */
static unsigned count_users(struct directory_cache *c, unsigned users)
{
	struct directory_cache_question q = Q("imap", "", "", 1);
	unsigned left = 0;
	char name[20];

	for (unsigned i = 0; i < users; i++) {
		snprintf(name, sizeof(name), "u%u", i);
		q.name = slice_str(name);
		left += strcmp(get(c, &q), name) == 0;
	}
	return left;
}

/* Also when many sets are full of users. */
static void security_a_flood_of_names_pushes_out_no_user(void **state)
{
	struct directory_cache *c = directory_cache_new(1000);
	struct directory_cache_entry none = {.kind = DIRECTORY_CACHE_NONE};
	struct directory_cache_question q = Q("imap", "", "", 1);
	struct directory_cache_key key;
	unsigned users = 900, before;
	char name[20];

	(void)state;
	for (unsigned i = 0; i < users; i++) {
		snprintf(name, sizeof(name), "u%u", i);
		q.name = slice_str(name);
		put(c, &q, name);
	}
	before = count_users(c, users);
	assert_in_range(before, users / 2, users);
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "nobody%u", i);
		q.name = slice_str(name);
		directory_cache_key(c, &q, &key);
		directory_cache_put(c, &key, directory_cache_epoch(c), 2000 + i, &none);
	}
	assert_int_equal(count_users(c, users), before);
	directory_cache_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_security_07_the_key_is_the_whole_question),
		cmocka_unit_test(test_flush_forgets_one_or_all),
		cmocka_unit_test(test_it_is_bounded),
		cmocka_unit_test(security_a_flood_of_names_pushes_out_no_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
