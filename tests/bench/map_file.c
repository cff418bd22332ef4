/*
 * Figures of file maps and of a cached login's check: Prints a line a figure.
 *
 *	make bench-map                     a million entries
 *	build/bench/map_file [ENTRIES]
 *
 * The map is made here: ENTRIES lines "user0000001@example.com  b1", as long as names are in practice. Look-ups go in random
 * order over all names, each timed by itself, so that the median is of single look-ups with cold caches.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/auth/credential_cache.h"
#include "common/auth/sasl.h"
#include "common/base/clock.h"
#include "common/base/num.h"
#include "mapping/map_parse.h"

#define LOOKUPS 1000000

static const char *const backends[] = {"b1", "b2", "b3", "b4", NULL};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static struct map_data *bench_load(uint32_t entries)
{
	struct map_parse_options o = {.file = "bench", .backends = backends};
	struct map_parse_info info;
	struct map_data *d = NULL;
	struct buf text = {0}, why = {0};
	uint64_t start;

	for (uint32_t i = 0; i < entries; i++)
		buf_printf(&text, "user%07u@example.com  b%u\n", i, i % 4 + 1);
	start = now_ns();
	if (map_parse(buf_view(&text), &o, &why, &info, &d)) {
		fprintf(stderr, "%s\n", buf_str_view(&why));
		exit(1);
	}
	printf("map load             %8.3f s      for %u entries (%zu bytes of text)\n",
		(double)(now_ns() - start) / 1e9, entries, buf_len(&text));
	printf("map memory           %8.1f bytes  per entry\n", (double)map_data_bytes(d) / entries);
	buf_deinit(&text);
	return d;
}

static void bench_find(struct map_data *d, uint32_t entries)
{
	uint32_t *ns = calloc(LOOKUPS, sizeof(*ns));
	uint64_t x = 88172645463325252u;

	require(ns);
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		char name[64], account[USERMAP_ADDRESS_MOST + 1];
		struct map_entry e;
		uint64_t start;
		int error;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		snprintf(name, sizeof(name), "user%07u@example.com", (uint32_t)(x % entries));
		start = now_ns();
		error = map_data_find(d, slice_str(name), &e, account, NULL, NULL);
		ns[i] = (uint32_t)(now_ns() - start);
		require(error == 0);
	}
	qsort(ns, LOOKUPS, sizeof(*ns), compare_u32);
	printf("map look-up          %8u ns     median, %u ns at 99 %% (with the clock's own time)\n",
		ns[LOOKUPS / 2], ns[LOOKUPS / 100 * 99]);
	free(ns);
}

/* A name that none of ten expressions fits. */
static void bench_expressions(void)
{
	struct map_parse_options o = {.file = "bench", .backends = backends};
	char account[USERMAP_ADDRESS_MOST + 1];
	struct map_parse_info info;
	struct map_data *d = NULL;
	struct buf text = {0}, why = {0};
	struct map_entry e;
	uint64_t start;
	unsigned hits = 0;

	for (unsigned i = 0; i < 10; i++)
		buf_printf(&text, "/^[a-m][^@]*@sub%u\\.example\\.net$/ b1\n", i);
	if (map_parse(buf_view(&text), &o, &why, &info, &d))
		exit(1);
	start = now_ns();
	for (unsigned i = 0; i < 100000; i++)
		hits += map_data_find(
				d, SLICE_LIT("alice.longer@sub.example.net"), &e, account, NULL, NULL) == 0;
	printf("map expression       %8.2f us     each, of ten that do not fit (%u hits)\n",
		(double)(now_ns() - start) / 1e3 / 100000 / 10, hits);
	map_data_unref(&d);
	buf_deinit(&text);
	buf_deinit(&why);
}

static void bench_cache(void)
{
	struct credential_cache *cache = credential_cache_new(600000, 100000);
	struct credential c = {.realm = SLICE_LIT("users"),
		.service = SLICE_LIT("imap"),
		.user = SLICE_LIT("user0000001@example.com"),
		.password = SLICE_LIT("pass0001"),
		.stored = SLICE_LIT("{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$"
				    "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")};
	uint64_t start;
	unsigned hits = 0;

	credential_cache_add(cache, &c);
	start = now_ns();
	for (unsigned i = 0; i < 200000; i++)
		hits += credential_cache_has(cache, &c);
	printf("cached credential    %8.2f us     %u hits\n", (double)(now_ns() - start) / 1e3 / 200000,
		hits);
	credential_cache_free(&cache);
}

static void bench_sasl(void)
{
	static const char *const allowed[] = {"PLAIN", NULL};
	const struct sasl_options options = {
		.service = "imap", .mechanism = SLICE_LIT("PLAIN"), .allowed = allowed};
	struct buf why = {0}, challenge = {0};
	uint64_t start;

	if (sasl_init("bench", &why)) {
		fprintf(stderr, "%s\n", buf_str_view(&why));
		exit(1);
	}
	start = now_ns();
	for (unsigned i = 0; i < 100000; i++) {
		struct sasl_session *s = NULL;
		int error = sasl_session_new(&options, &s);

		if (!error)
			error = sasl_session_start(
				s, SLICE_LIT("AGFsaWNlQGV4YW1wbGUuY29tAHNlY3JldA=="), &challenge);
		require(error == 0);
		sasl_session_free(&s);
	}
	printf("SASL PLAIN session   %8.2f us\n", (double)(now_ns() - start) / 1e3 / 100000);
	sasl_deinit();
	buf_deinit(&challenge);
}

static void bench_hash(void)
{
	struct buf stored = {0};
	uint64_t start = now_ns();

	if (password_make(NULL, SLICE_LIT("pass0001"), &stored))
		exit(1);
	printf("{ARGON2ID} cold      %8.2f ms\n", (double)(now_ns() - start) / 1e6);
	buf_deinit(&stored);
}

int main(int argc, char **argv)
{
	uint32_t entries = 1000000;
	struct map_data *d;

	if (argc > 1 && (num_parse_u32(slice_str(argv[1]), &entries) || !entries || entries > 10000000)) {
		fprintf(stderr, "usage: map_file [ENTRIES]\n");
		return 64;
	}
	d = bench_load(entries);
	bench_find(d, entries);
	map_data_unref(&d);
	bench_expressions();
	bench_cache();
	bench_sasl();
	bench_hash();
	return 0;
}
