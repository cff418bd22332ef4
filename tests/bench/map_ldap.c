/*
 * Figures of LDAP maps (make bench-directory): look-ups that go to the directory, beside a plain loop over libldap with as
 * many connections, one thread each, against the same slapd in the same run, turn about; and look-ups from memory.
 *
 *	map_ldap [ROUNDS [CONNECTIONS]]
 */
#include <ldap.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/timer.h"
#include "mapping/usermap.h"
#include "tests/unit/slapd.h"

#define USERS 10000
#define SECONDS 3
#define FLYING 128 /* questions under way at a time */
#define CONNECTIONS_MOST 16

static struct slapd slapd;
static unsigned connections = 4;
static char uri[60];

/* ---- the plain loop ---- */

static _Atomic bool is_over;

struct plain {
	pthread_t thread;
	unsigned seed;
	uint64_t count;
};

static void *plain_run(void *arg)
{
	static const char *const attributes[] = {"mailHost", "mail", NULL};
	struct plain *p = arg;
	struct berval cred = {
		.bv_len = strlen(SLAPD_READER_PASSWORD), .bv_val = (char[]){SLAPD_READER_PASSWORD}};
	int version = LDAP_VERSION3;
	LDAP *ld = NULL;

	if (ldap_initialize(&ld, uri) || ldap_set_option(ld, LDAP_OPT_PROTOCOL_VERSION, &version) ||
		ldap_sasl_bind_s(ld, SLAPD_READER, LDAP_SASL_SIMPLE, &cred, NULL, NULL, NULL))
		return NULL;
	while (!is_over) {
		char filter[80];
		LDAPMessage *m = NULL, *entry;
		struct berval **values;

		snprintf(filter, sizeof(filter), "(mail=u%u@corp.example)", rand_r(&p->seed) % USERS);
		if (ldap_search_ext_s(ld, SLAPD_BASE, LDAP_SCOPE_SUBTREE, filter,
			    (char **)(uintptr_t)attributes, 0, NULL, NULL, NULL, 2, &m))
			break;
		entry = ldap_first_entry(ld, m);
		values = entry ? ldap_get_values_len(ld, entry, "mailHost") : NULL;
		p->count += values != NULL;
		ldap_value_free_len(values);
		ldap_msgfree(m);
	}
	ldap_unbind_ext(ld, NULL, NULL);
	return NULL;
}

/* Of this process. */
static double cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return 1e6 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double plain_rate(double *cpu_out)
{
	double cpu = cpu_us();
	struct plain all[CONNECTIONS_MOST] = {0};
	uint64_t begin = clock_mono_us(), total = 0;

	is_over = false;
	for (unsigned i = 0; i < connections; i++) {
		all[i].seed = i + 1;
		pthread_create(&all[i].thread, NULL, plain_run, &all[i]);
	}
	while (clock_mono_us() - begin < SECONDS * 1000000ull)
		usleep(10000);
	is_over = true;
	for (unsigned i = 0; i < connections; i++) {
		pthread_join(all[i].thread, NULL);
		total += all[i].count;
	}
	*cpu_out = (cpu_us() - cpu) / (double)total;
	return (double)total * 1e6 / (double)(clock_mono_us() - begin);
}

/* ---- ours ---- */

struct ours {
	struct loop *loop;
	struct work_pool *pool;
	struct usermap_set *set;
	struct usermap_chain *chain;
	unsigned seed;
	uint64_t count, bad, until_us;
	unsigned flying;
};

static const char *const backends[] = {"b1", "b2", NULL};

static void ours_open(struct ours *o, uint64_t positive_ms)
{
	const char *uris[] = {uri, NULL};
	const char *const chain[] = {"dir", NULL};
	struct directory_connector c = {.directory = {.name = "bench",
						.uris = uris,
						.client = {.bind = LDAP_CLIENT_SIMPLE,
							.bind_dn = SLAPD_READER,
							.password = SLICE_LIT(SLAPD_READER_PASSWORD)},
						.timeout_ms = 4000,
						.connect_timeout_ms = 4000,
						.health_ms = 5000,
						.connections = connections,
						.bind_connections = 1,
						.in_flight = 100},
		.base = SLAPD_BASE,
		.filter = "mail=%e",
		.address_filter = "mail=%e",
		.host_attribute = "mailHost",
		.account_attribute = "mail"};
	struct usermap_options map = {.name = "dir",
		.type = USERMAP_LDAP_BIND,
		.connector = "bench",
		.positive_ms = positive_ms,
		.negative_ms = 1000,
		.stale_ms = 1000,
		.cache_entries = 20 * USERS};
	struct usermap_config config = {.maps = &map,
		.count = 1,
		.connectors = &c,
		.connector_count = 1,
		.backends = backends,
		.credential_lifetime_ms = 1000,
		.credential_entries = 1000};
	struct buf why = {0};

	*o = (struct ours){.seed = 1};
	if (loop_new(&o->loop) || work_pool_new("bench", 1, 10, &o->pool) ||
		usermap_set_open(&config, o->loop, o->pool, &why, &o->set) ||
		usermap_chain_new(o->set, chain, &o->chain))
		exit(1);
	buf_deinit(&why);
}

static void on_stop(void *arg)
{
	loop_stop(arg);
}

static void run_for(struct ours *o, unsigned ms)
{
	struct timer t;

	timer_init(&t, on_stop, o->loop);
	timer_set(&t, o->loop, ms);
	loop_run(o->loop);
	timer_stop(&t);
}

static void ours_close(struct ours *o)
{
	usermap_chain_unref(&o->chain);
	usermap_set_close(&o->set);
	work_pool_free(&o->pool);
	run_for(o, 20);
	loop_free(&o->loop);
}

static void ask(struct ours *o, usermap_fn *fn)
{
	struct usermap_request *r;
	struct usermap_answer a;
	char name[40];
	const struct usermap_question q = {.service = SLICE_LIT("imap"),
		.name = slice_of(name,
			(size_t)snprintf(name, sizeof(name), "u%u@corp.example", rand_r(&o->seed) % USERS))};

	if (usermap_lookup(o->chain, &q, o->loop, fn, o, &a, &r))
		exit(2); /* it was to be uncached */
	o->flying++;
}

static void on_answer(void *arg, const struct usermap_answer *a)
{
	struct ours *o = arg;

	o->flying--;
	o->count++;
	o->bad += a->verdict != USERMAP_YES || a->target_count != 1;
	if (clock_mono_us() < o->until_us)
		ask(o, on_answer);
	else if (!o->flying)
		loop_stop(o->loop);
}

static void wait_ready(struct ours *o)
{
	struct usermap_status s;

	do {
		run_for(o, 50);
		usermap_set_status(o->set, 0, &s);
	} while (!s.usable);
	run_for(o, 500); /* until all connections are there */
}

static double ours_rate(double *cpu_out)
{
	double cpu;
	struct ours o;
	uint64_t begin;
	double rate;

	ours_open(&o, 0);
	wait_ready(&o);
	begin = clock_mono_us();
	cpu = cpu_us();
	o.until_us = begin + SECONDS * 1000000ull;
	for (unsigned i = 0; i < FLYING; i++)
		ask(&o, on_answer);
	loop_run(o.loop);
	*cpu_out = (cpu_us() - cpu) / (double)o.count;
	rate = (double)o.count * 1e6 / (double)(clock_mono_us() - begin);
	if (o.bad)
		printf("%llu bad answers\n", (unsigned long long)o.bad);
	ours_close(&o);
	return rate;
}

static void on_filled(void *arg, const struct usermap_answer *a)
{
	struct ours *o = arg;

	(void)a;
	o->flying--;
}

/* Every user is remembered; in random order. */
static double cached_us(void)
{
	enum {
		TIMES = 1000000
	};
	struct ours o;
	struct usermap_request *r;
	struct usermap_answer a;
	char(*names)[24] = xcalloc(USERS, sizeof(*names));
	uint64_t begin, took;

	ours_open(&o, 600000);
	wait_ready(&o);
	for (unsigned i = 0; i < USERS; i++) {
		const struct usermap_question q = {.service = SLICE_LIT("imap"),
			.name = slice_of(names[i], (size_t)snprintf(names[i], 24, "u%u@corp.example", i))};

		if (!usermap_lookup(o.chain, &q, o.loop, on_filled, &o, &a, &r))
			o.flying++;
		while (o.flying > FLYING)
			run_for(&o, 1);
	}
	while (o.flying)
		run_for(&o, 10);
	begin = clock_mono_us();
	for (unsigned i = 0; i < TIMES; i++) {
		const struct usermap_question q = {
			.service = SLICE_LIT("imap"), .name = slice_str(names[rand_r(&o.seed) % USERS])};

		if (!usermap_lookup(o.chain, &q, o.loop, on_filled, &o, &a, &r) || a.verdict != USERMAP_YES)
			exit(3);
	}
	took = clock_mono_us() - begin;
	ours_close(&o);
	free(names);
	return (double)took / TIMES;
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 3;
	double ratio_sum = 0;

	connections = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : connections;
	if (!slapd_is_there() || connections < 1 || connections > CONNECTIONS_MOST ||
		!slapd_new_of(&slapd, USERS)) {
		fprintf(stderr, "slapd is not installed, or does not start\n");
		return 1;
	}
	snprintf(uri, sizeof(uri), "ldap://127.0.0.1:%d", slapd.port);
	(void)plain_rate(&ratio_sum); /* warms it */
	ratio_sum = 0;
	for (unsigned i = 0; i < rounds; i++) {
		double plain_cpu, cpu, plain = plain_rate(&plain_cpu), ours = ours_rate(&cpu);

		printf("uncached look-ups, %u connections: %.0f/s, libldap in a loop: %.0f/s, ratio %.2f; "
		       "CPU %.1f and %.1f us\n",
			connections, ours, plain, ours / plain, cpu, plain_cpu);
		ratio_sum += ours / plain;
	}
	printf("uncached look-ups, mean ratio: %.2f (to reach: 0.80)\n", ratio_sum / rounds);
	printf("cached look-up: %.2f us (to reach: 2.00)\n", cached_us());
	slapd_free(&slapd);
	return 0;
}
