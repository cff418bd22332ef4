/*
 * The only place that sees libmaxminddb. A lookup holds the reading side of a lock; a file that has changed is opened aside and swapped under
 * the writing side. One that cannot be opened leaves the old one in force, with a line in the log.
 */
#include "common/front/smtp_country.h"

#include <maxminddb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/log.h"
#include "common/base/mem.h"

struct smtp_country {
	char *path;
	pthread_rwlock_t lock;
	MMDB_s db;
	struct stat seen;
	_Atomic uint64_t look_at_ms;
};

int smtp_country_open(const char *path, struct buf *why, struct smtp_country **country_out)
{
	struct smtp_country *c = xcalloc(1, sizeof(*c));
	int rc = MMDB_open(path, MMDB_MODE_MMAP, &c->db);

	if (rc != MMDB_SUCCESS) {
		buf_printf(why, "%s: %s\n", path, MMDB_strerror(rc));
		free(c);
		return ERR_CONFIG;
	}
	c->path = xstrdup(path);
	(void)stat(path, &c->seen);
	pthread_rwlock_init(&c->lock, NULL);
	*country_out = c;
	return 0;
}

void smtp_country_close(struct smtp_country **country)
{
	struct smtp_country *c = *country;

	*country = NULL;
	if (!c)
		return;
	MMDB_close(&c->db);
	pthread_rwlock_destroy(&c->lock);
	free(c->path);
	free(c);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* One thread at a time gets here with its turn. */
static void look(struct smtp_country *c)
{
	struct stat now;
	MMDB_s db, old;
	int rc;

	if (stat(c->path, &now) != 0 || is_same(&now, &c->seen))
		return;
	rc = MMDB_open(c->path, MMDB_MODE_MMAP, &db);
	c->seen = now;
	if (rc != MMDB_SUCCESS) {
		log_error("smtp", "%s: %s; the countries of before stay", c->path, MMDB_strerror(rc));
		return;
	}
	pthread_rwlock_wrlock(&c->lock);
	old = c->db;
	c->db = db;
	pthread_rwlock_unlock(&c->lock);
	MMDB_close(&old);
	log_info("smtp", "%s: countries read again", c->path);
}

static void set(struct smtp_facts *facts, const MMDB_entry_data_s *data)
{
	facts->country_state = SMTP_FACT_NONE;
	if (!data->has_data || data->type != MMDB_DATA_TYPE_UTF8_STRING || data->data_size != 2)
		return;
	memcpy(facts->country, data->utf8_string, 2);
	facts->country[2] = 0;
	facts->country_state = SMTP_FACT_KNOWN;
}

void smtp_country_find(struct smtp_country *c, uint64_t now_ms, struct smtp_facts *facts)
{
	uint64_t due = c ? atomic_load(&c->look_at_ms) : 0;
	MMDB_entry_data_s data = {0};
	MMDB_lookup_result_s found;
	struct addr plain;
	int rc = MMDB_SUCCESS;

	facts->country_state = SMTP_FACT_NOT_NOW;
	if (!c)
		return;
	if (now_ms >= due &&
		atomic_compare_exchange_strong(&c->look_at_ms, &due, now_ms + SMTP_COUNTRY_LOOK_MS))
		look(c);
	facts->country_state = SMTP_FACT_NONE;
	if (!addr_ip(&facts->peer).len)
		return;
	/* An IPv4 address that is written as IPv6 is looked up as what it is. */
	addr_set_ip(&plain, addr_ip(&facts->peer).p, addr_ip(&facts->peer).len, 0);
	pthread_rwlock_rdlock(&c->lock);
	found = MMDB_lookup_sockaddr(&c->db, (const struct sockaddr *)&plain.ss, &rc);
	if (rc == MMDB_SUCCESS && found.found_entry)
		rc = MMDB_get_value(&found.entry, &data, "country", "iso_code", NULL);
	if (rc == MMDB_SUCCESS && found.found_entry)
		set(facts, &data);
	pthread_rwlock_unlock(&c->lock);
	/* An IPv6 address in a database of IPv4 alone, or an entry without a country: there is none. */
	if (rc != MMDB_SUCCESS && rc != MMDB_IPV6_LOOKUP_IN_IPV4_DATABASE_ERROR &&
		rc != MMDB_LOOKUP_PATH_DOES_NOT_MATCH_DATA_ERROR)
		facts->country_state = SMTP_FACT_NOT_NOW;
}
