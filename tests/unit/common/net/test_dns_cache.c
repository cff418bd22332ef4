/* Kept answers: for how long, how many, and that a copy is whole. */
#include "tests/unit/common/net/net_test.h"

#include "common/net/dns_cache.h"

static const struct dns_record records[] = {
	{.type = DNS_MX, .preference = 10, .name = {"mx.test", 7}},
	{.type = DNS_MX, .preference = 20, .name = {"my.test", 7}},
};
static const struct dns_answer answer = {
	.ttl = 60, .count = 2, .records = records, .canonical = "a.test", .detail = "", .is_secure = true};

static void test_copies_live_as_long_as_they_may(void **state)
{
	struct dns_cache *cache = dns_cache_new();
	const struct dns_answer *got;

	(void)state;
	dns_cache_put(cache, "A.test", DNS_MX, false, &answer, 1000);
	got = dns_cache_find(cache, "a.TEST", DNS_MX, false, 11000);
	assert_non_null(got);
	assert_int_equal(got->ttl, 50);
	assert_int_equal(got->count, 2);
	assert_true(got->is_secure && got->records != records);
	assert_true(slice_is_str(got->records[1].name, "my.test"));
	assert_string_equal(got->canonical, "a.test");
	assert_null(dns_cache_find(cache, "a.test", DNS_A, false, 11000));
	assert_null(dns_cache_find(cache, "a.test", DNS_MX, true, 11000)); /* names are checked otherwise */
	assert_null(dns_cache_find(cache, "a.test", DNS_MX, false, 61000));
	assert_null(dns_cache_find(cache, "a.test", DNS_MX, false, 11000)); /* it is gone */
	dns_cache_free(&cache);
	assert_null(cache);
}

static void test_what_is_not_kept(void **state)
{
	static const struct dns_answer rows[] = {
		{.error = ERR_NOT_NOW, .ttl = 60, .canonical = "", .detail = ""},
		{.error = ERR_NOT_NOW, .is_bogus = true, .ttl = 60, .canonical = "", .detail = ""},
		{.error = ERR_NOT_FOUND, .ttl = 0, .canonical = "", .detail = ""},
	};
	static char text[DNS_CACHE_ANSWER_MOST];
	struct dns_record long_record = {.type = DNS_TXT, .text = slice_of(text, sizeof(text))};
	struct dns_answer long_answer = {.ttl = 60, .count = 1, .records = &long_record, .canonical = ""};
	struct dns_cache *cache = dns_cache_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		dns_cache_put(cache, "a.test", DNS_TXT, false, &rows[i], 0);
		assert_null(dns_cache_find(cache, "a.test", DNS_TXT, false, 0));
	}
	dns_cache_put(cache, "a.test", DNS_TXT, false, &long_answer, 0);
	assert_null(dns_cache_find(cache, "a.test", DNS_TXT, false, 0));
	dns_cache_free(&cache);
}

static void test_security_22_what_is_kept_is_bounded(void **state)
{
	struct dns_cache *cache = dns_cache_new();
	struct dns_answer forever = answer;
	unsigned kept = 0;
	char name[32];

	(void)state;
	forever.ttl = UINT32_MAX;
	for (unsigned i = 0; i < 3 * DNS_CACHE_ANSWERS_MOST; i++) {
		snprintf(name, sizeof(name), "n%u.test", i);
		dns_cache_put(cache, name, DNS_MX, false, &forever, 0);
	}
	for (unsigned i = 0; i < 3 * DNS_CACHE_ANSWERS_MOST; i++) {
		snprintf(name, sizeof(name), "n%u.test", i);
		kept += dns_cache_find(cache, name, DNS_MX, false, 0) != NULL;
	}
	assert_in_range(kept, 1, DNS_CACHE_ANSWERS_MOST);
	assert_int_equal(dns_cache_find(cache, name, DNS_MX, false, 0)->ttl, DNS_CACHE_TTL_MOST_S);
	dns_cache_free(&cache);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copies_live_as_long_as_they_may),
		cmocka_unit_test(test_what_is_not_kept),
		cmocka_unit_test(test_security_22_what_is_kept_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
