/*
 * A flight is one question on its way; whoever asks the same meanwhile is one more of its waiters.
 *
 *	ask -> cache? -> flight -> (home) search whole name -> none: search without detail -> entry -> check -> land
 *
 * The list of flights and their waiters is behind the map's lock; all else of a flight belongs to the home loop. An
 * answer that is "not now" is replaced by one that was right before, if that is not older than stale_ms. A waiter that is
 * cancelled loses its fn and is freed when the flight lands.
 */
#include "mapping/map_ldap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/table.h"
#include "common/directory/directory_text.h"
#include "common/proto/address.h"
#include "mapping/map_host.h"

#define AREA "mapping"
#define PASSWORDS_MOST 8 /* values of the password attribute that are tried */

enum column {
	COLUMN_HOST,
	COLUMN_PASSWORD,
	COLUMN_ACCOUNT,
	COLUMNS
};

struct map_ldap {
	_Atomic unsigned refs;
	char *name, *base, *filter, *address_filter;
	char **backends;
	bool by_bind, ports;
	enum usermap_several several;
	char *columns[COLUMNS];              /* attribute names, "" for none */
	const char *attributes[COLUMNS + 2]; /* what is asked for; NULL-ended */
	int column_at[COLUMNS];              /* where a column is in attributes; -1: not asked for */
	uint64_t positive_ms, negative_ms, stale_ms;
	struct map_cache *cache;
	struct directory *directory;
	struct loop *home;
	struct credential_cache *credentials;
	struct work_pool *hash_pool;
	pthread_mutex_t lock;
	struct list flights;
	struct table *by_key; /* of the flights: the one to join */
	struct metric *hits, *misses, *joined, *stale;
};

struct flight {
	struct list link;
	struct map_ldap *map;
	struct map_cache_key key;
	uint64_t epoch;
	struct list waiters;
	bool is_posted, is_ended;
	/* the question */
	char *service, *name;
	struct secret password;
	enum usermap_shown shown;
	bool is_address;
	/* on its way */
	bool is_bare; /* asking without the detail */
	struct directory_request *request;
	struct credential_check *checking;
	struct map_ldap_answer answer;
	char *dn;
	struct secret stored[PASSWORDS_MOST];
	size_t stored_count, stored_at;
	bool is_unsure; /* some stored text could not be judged */
};

struct map_ldap_request {
	struct list link;
	struct loop *loop;
	map_ldap_fn *fn; /* NULL: cancelled; touched on its loop alone */
	void *arg;
	struct map_ldap_answer answer;
	struct secret stored; /* what the answer shows */
};

/* ---- the map ---- */

static void columns_set(struct map_ldap *m, const struct usermap_connector *c)
{
	const char *names[COLUMNS] = {
		c->host_attribute, m->by_bind ? "" : c->password_attribute, c->account_attribute};
	int n = 0;

	for (int i = 0; i < COLUMNS; i++) {
		m->columns[i] = xstrdup(names[i]);
		m->column_at[i] = *names[i] ? n : -1;
		if (*names[i])
			m->attributes[n++] = m->columns[i];
	}
	if (!n)
		m->attributes[n++] = "1.1"; /* none at all, RFC 4511 section 4.5.1.8 */
}

static void metrics_find(struct map_ldap *m)
{
	struct buf l = {0};

	buf_add_str(&l, "map=\"");
	metrics_escape_label(&l, slice_str(m->name));
	buf_add_str(&l, "\"");
	m->hits = metrics_counter(
		"mailtier_map_cache_hits", buf_str_view(&l), "Questions answered from memory");
	m->misses = metrics_counter(
		"mailtier_map_cache_misses", buf_str_view(&l), "Questions put to the directory");
	m->joined = metrics_counter("mailtier_map_cache_joined", buf_str_view(&l),
		"Questions that waited for the same one under way");
	m->stale = metrics_counter("mailtier_map_cache_stale", buf_str_view(&l),
		"Questions answered from memory beyond its time, since the directory could not say");
	buf_deinit(&l);
}

struct map_ldap *map_ldap_new(const struct map_ldap_options *o)
{
	struct map_ldap *m = xcalloc(1, sizeof(*m));
	size_t n = 0;

	atomic_init(&m->refs, 1);
	m->name = xstrdup(o->name);
	m->base = xstrdup(o->connector->base);
	m->filter = xstrdup(o->connector->filter);
	m->address_filter = xstrdup(o->connector->address_filter);
	while (o->backends && o->backends[n])
		n++;
	m->backends = xcalloc(n + 1, sizeof(*m->backends));
	for (size_t i = 0; i < n; i++)
		m->backends[i] = xstrdup(o->backends[i]);
	m->by_bind = o->by_bind;
	m->ports = o->ports;
	m->several = o->connector->several;
	columns_set(m, o->connector);
	m->positive_ms = o->positive_ms;
	m->negative_ms = o->negative_ms;
	m->stale_ms = o->stale_ms;
	m->cache = map_cache_new(o->cache_entries);
	m->directory = o->directory;
	directory_hold(m->directory);
	m->home = o->home;
	m->credentials = o->credentials;
	m->hash_pool = o->hash_pool;
	pthread_mutex_init(&m->lock, NULL);
	list_init(&m->flights);
	m->by_key = table_new();
	metrics_find(m);
	return m;
}

static struct map_ldap *map_ref(struct map_ldap *m)
{
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

void map_ldap_unref(struct map_ldap **map)
{
	struct map_ldap *m = *map;

	*map = NULL;
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return;
	map_cache_free(&m->cache);
	table_free(&m->by_key);
	pthread_mutex_destroy(&m->lock);
	for (size_t i = 0; m->backends[i]; i++)
		free(m->backends[i]);
	free(m->backends);
	for (size_t i = 0; i < COLUMNS; i++)
		free(m->columns[i]);
	free(m->name);
	free(m->base);
	free(m->filter);
	free(m->address_filter);
	directory_release(m->directory);
	free(m);
}

/* ---- landing ---- */

static void flight_free(struct flight *f)
{
	directory_cancel(&f->request);
	credential_check_cancel(&f->checking);
	secret_deinit(&f->password);
	for (size_t i = 0; i < f->stored_count; i++)
		secret_deinit(&f->stored[i]);
	free(f->dn);
	free(f->service);
	free(f->name);
	map_ldap_unref(&f->map);
	free(f);
}

static void waiter_tell(void *arg)
{
	struct map_ldap_request *w = arg;
	map_ldap_fn *fn = w->fn;

	w->answer.stored = secret_view(&w->stored);
	if (fn)
		fn(w->arg, &w->answer);
	secret_deinit(&w->stored);
	free(w);
}

static bool is_fresh(const struct map_ldap *m, const struct map_cache_entry *e, uint64_t age_ms)
{
	return age_ms < (e->kind == MAP_CACHE_HIT ? m->positive_ms : m->negative_ms);
}

static void answer_from(struct map_ldap_answer *a, const struct map_cache_entry *e)
{
	a->verdict = e->kind == MAP_CACHE_HIT    ? MAP_LDAP_HIT
		     : e->kind == MAP_CACHE_NONE ? MAP_LDAP_NONE
						 : MAP_LDAP_WRONG;
	a->entry = *e;
}

/* What was right before, while the directory cannot say. */
static void stale_serve(struct flight *f)
{
	struct map_ldap *m = f->map;
	struct map_cache_entry e;
	uint64_t got;

	if (map_cache_get(m->cache, &f->key, &e, &got) && e.kind == MAP_CACHE_HIT &&
		clock_mono_ms() - got < m->stale_ms) {
		answer_from(&f->answer, &e);
		f->answer.is_cached = f->answer.is_stale = true;
		metric_add(m->stale, 1);
	}
}

static void remember(struct flight *f)
{
	struct map_cache_entry *e = &f->answer.entry;

	e->kind = f->answer.verdict == MAP_LDAP_HIT    ? MAP_CACHE_HIT
		  : f->answer.verdict == MAP_LDAP_NONE ? MAP_CACHE_NONE
						       : MAP_CACHE_WRONG;
	map_cache_put(f->map->cache, &f->key, f->epoch, clock_mono_ms(), e);
}

/* Under the lock. Another flight, begun after a flush, may have the place in the table. */
static void flight_remove(struct map_ldap *m, struct flight *f)
{
	struct slice key = slice_of(f->key.digest, sizeof(f->key.digest));

	list_remove(&f->link);
	if (table_get(m->by_key, key) == f)
		(void)table_remove(m->by_key, key);
}

/* A fetch has one waiter alone. */
static void stored_give(struct flight *f)
{
	struct buf texts = {0};

	(void)buf_reserve(&texts, PASSWORDS_MOST * (PASSWORD_STORED_MOST + 1)); /* so that it never moves */
	for (size_t i = 0; i < f->stored_count; i++) {
		buf_add_slice(&texts, secret_view(&f->stored[i]));
		buf_add_char(&texts, 0);
	}
	list_for_each (at, &f->waiters)
		secret_set(&container_of(at, struct map_ldap_request, link)->stored, buf_view(&texts));
	if (texts.data)
		secret_wipe(texts.data, texts.cap);
	buf_deinit(&texts);
}

/* The flight is over: nobody can join it any more, all waiters are told. */
static void land(struct flight *f, enum map_ldap_verdict verdict)
{
	struct map_ldap *m = f->map;
	struct loop *home = m->home;
	struct list waiters;

	f->answer.verdict = verdict;
	if (f->shown == USERMAP_SHOWN_FETCH)
		stored_give(f);
	else if (verdict == MAP_LDAP_NOT_NOW)
		stale_serve(f);
	else
		remember(f);
	list_init(&waiters);
	pthread_mutex_lock(&m->lock);
	flight_remove(m, f);
	list_move_all(&waiters, &f->waiters);
	pthread_mutex_unlock(&m->lock);
	list_for_each (at, &waiters)
		container_of(at, struct map_ldap_request, link)->answer = f->answer;
	flight_free(f);
	while (!list_is_empty(&waiters)) {
		struct map_ldap_request *w = container_of(waiters.next, struct map_ldap_request, link);

		list_remove(&w->link);
		if (w->loop == home)
			waiter_tell(w);
		else
			loop_post(w->loop, waiter_tell, w);
	}
}

/* ---- what an entry says ---- */

static struct slice value_of(
	const struct flight *f, const struct directory_found *found, enum column column, size_t n)
{
	int at = f->map->column_at[column];
	const struct ldap_client_values *v = at < 0 ? NULL : &found->attributes[at];

	return v && n < v->count ? v->at[n] : slice_of(NULL, 0);
}

static void copy_text(char *to, size_t room, struct slice s)
{
	require(s.len < room);
	if (s.len)
		memcpy(to, s.p, s.len);
	to[s.len] = 0;
}

/* The name without its detail, a heap copy; NULL: it has none. */
static char *bare_name(const char *name)
{
	struct arena a;
	struct address_name n;
	char *bare = NULL;

	arena_init(&a, 8 * 1024);
	if (!address_normalise(&a, slice_str(name), &n) && n.detail.len)
		bare = slice_copy_str(n.full);
	arena_deinit(&a);
	return bare;
}

static int account_set(struct flight *f, const struct directory_found *found)
{
	struct slice value = value_of(f, found, COLUMN_ACCOUNT, 0);
	struct address_name n;
	struct arena a;
	int error;

	if (!value.len) {
		char *bare = bare_name(f->name);

		copy_text(f->answer.entry.account, sizeof(f->answer.entry.account),
			slice_str(bare ? bare : f->name));
		free(bare);
		return 0;
	}
	arena_init(&a, 8 * 1024);
	error = value.len > 2 * USERMAP_ADDRESS_MOST ? ERR_SYNTAX : address_normalise_whole(&a, value, &n);
	if (!error && n.full.len > USERMAP_ADDRESS_MOST)
		error = ERR_TOO_BIG;
	if (!error)
		copy_text(f->answer.entry.account, sizeof(f->answer.entry.account), n.full);
	arena_deinit(&a);
	return error;
}

static int route_set(struct flight *f, const struct directory_found *found)
{
	struct slice value = slice_trim(value_of(f, found, COLUMN_HOST, 0)), host;
	struct map_cache_entry *e = &f->answer.entry;

	if (!value.len)
		return 0; /* authentication only */
	for (size_t i = 0; f->map->backends[i]; i++) {
		if (slice_is_str(value, f->map->backends[i])) {
			e->is_routed = true;
			e->target = USERMAP_BACKEND;
			copy_text(e->backend, sizeof(e->backend), value);
			return 0;
		}
	}
	if (map_host_split(value, &host, &e->port) || (e->port && !f->map->ports))
		return ERR_SYNTAX;
	e->is_routed = true;
	e->target = USERMAP_HOST;
	copy_text(e->backend, sizeof(e->backend), host);
	for (char *p = e->backend; *p; p++)
		*p = ascii_lower(*p);
	return 0;
}

/* A value without a scheme is the password itself. */
static void stored_take(struct flight *f, const struct directory_found *found)
{
	for (size_t i = 0; i < PASSWORDS_MOST; i++) {
		struct slice value = value_of(f, found, COLUMN_PASSWORD, i);
		struct buf clear = {0};
		const char *reason;

		if (!value.len || value.len > PASSWORD_STORED_MOST)
			continue;
		if (!slice_has_prefix(value, "{") && password_stored_check(value, &reason)) {
			buf_add_str(&clear, "{PLAIN}");
			buf_add_slice(&clear, value);
			value = buf_view(&clear);
		}
		secret_set(&f->stored[f->stored_count++], value);
		if (clear.data)
			secret_wipe(clear.data, clear.cap);
		buf_deinit(&clear);
	}
}

/* ---- the credential ---- */

static void check_next(struct flight *f);

static void checked(struct flight *f, int verdict)
{
	if (!verdict) {
		f->answer.entry.is_checked = true;
		land(f, MAP_LDAP_HIT);
		return;
	}
	f->is_unsure |= verdict != ERR_DENIED;
	f->stored_at++;
	check_next(f);
}

static void on_checked(void *arg, int verdict)
{
	struct flight *f = arg;

	f->checking = NULL;
	checked(f, verdict);
}

static void check_next(struct flight *f)
{
	struct credential c = {.realm = slice_str(f->map->name),
		.service = slice_str(f->service),
		.user = slice_str(f->name),
		.password = secret_view(&f->password)};
	int verdict;

	if (f->stored_at == f->stored_count) {
		if (f->is_unsure)
			log_warn(AREA, "a stored password cannot be judged map=%s user=%s", f->map->name,
				f->name);
		land(f, f->is_unsure ? MAP_LDAP_NOT_NOW : MAP_LDAP_WRONG);
		return;
	}
	c.stored = secret_view(&f->stored[f->stored_at]);
	if (credential_check(f->map->credentials, f->map->hash_pool, f->map->home, &c, on_checked, f,
		    &verdict, &f->checking))
		checked(f, verdict);
}

static void on_bound(void *arg, int error, const struct directory_found *found, const char *reason)
{
	struct flight *f = arg;

	(void)found;
	f->request = NULL;
	if (!error)
		f->answer.entry.is_checked = true;
	else if (error != ERR_DENIED)
		log_warn(AREA, "bind failed map=%s user=%s: %s", f->map->name, f->name, reason);
	land(f, !error ? MAP_LDAP_HIT : error == ERR_DENIED ? MAP_LDAP_WRONG : MAP_LDAP_NOT_NOW);
}

static void check_begin(struct flight *f, const struct directory_found *found)
{
	struct map_ldap *m = f->map;

	f->answer.entry.can_check = m->by_bind || m->column_at[COLUMN_PASSWORD] >= 0;
	if (!m->by_bind) {
		stored_take(f, found);
		f->answer.entry.can_check = f->stored_count > 0;
	}
	if (f->shown != USERMAP_SHOWN_PASSWORD || !f->answer.entry.can_check) {
		land(f, MAP_LDAP_HIT);
	} else if (!password_is_acceptable(secret_view(&f->password))) {
		land(f, MAP_LDAP_WRONG);
	} else if (m->by_bind) {
		f->dn = xstrdup(found->dn);
		directory_bind(m->directory, f->dn, secret_view(&f->password), on_bound, f, &f->request);
	} else {
		check_next(f);
	}
}

/* ---- the search ---- */

static void search_begin(struct flight *f);

static void entry_found(struct flight *f, const struct directory_found *found)
{
	struct map_ldap *m = f->map;

	if (found->several && m->several == USERMAP_SEVERAL_ERROR) {
		log_error(AREA, "more than one entry fits: not now map=%s user=%s", m->name, f->name);
		land(f, MAP_LDAP_NOT_NOW);
		return;
	}
	if (found->several)
		log_warn(AREA, "more than one entry fits, the first is taken map=%s user=%s entry=%s",
			m->name, f->name, found->dn);
	if (account_set(f, found)) {
		log_error(AREA, "the account attribute is no address: not now map=%s user=%s entry=%s",
			m->name, f->name, found->dn);
		land(f, MAP_LDAP_NOT_NOW);
	} else if (route_set(f, found)) {
		log_error(AREA,
			"the host attribute is neither back-end nor host: not now map=%s user=%s entry=%s",
			m->name, f->name, found->dn);
		land(f, MAP_LDAP_NOT_NOW);
	} else {
		check_begin(f, found);
	}
}

static void on_found(void *arg, int error, const struct directory_found *found, const char *reason)
{
	struct flight *f = arg;
	char *bare;

	f->request = NULL;
	if (!error) {
		entry_found(f, found);
		return;
	}
	if (error != ERR_NOT_FOUND) {
		log_debug(AREA, "the directory cannot say map=%s user=%s: %s", f->map->name, f->name, reason);
		land(f, MAP_LDAP_NOT_NOW);
		return;
	}
	bare = f->is_bare ? NULL : bare_name(f->name);
	if (!bare) {
		land(f, MAP_LDAP_NONE);
		return;
	}
	free(bare);
	f->is_bare = true;
	search_begin(f);
}

static void search_begin(struct flight *f)
{
	struct map_ldap *m = f->map;
	struct buf filter = {0}, base = {0};
	char *bare = f->is_bare ? bare_name(f->name) : NULL;
	struct directory_text_names names = {
		.name = slice_str(bare ? bare : f->name), .service = slice_str(f->service)};
	struct directory_search search = {.attributes = m->attributes};

	directory_text_filter(&filter, slice_str(f->is_address ? m->address_filter : m->filter), &names);
	directory_text_base(&base, slice_str(m->base), &names);
	search.filter = buf_str_view(&filter);
	search.base = buf_str_view(&base);
	directory_search(m->directory, &search, on_found, f, &f->request);
	buf_deinit(&filter);
	buf_deinit(&base);
	free(bare);
}

/* On the home. */
static void flight_start(void *arg)
{
	struct flight *f = arg;

	f->is_posted = false;
	if (f->is_ended)
		flight_free(f);
	else
		search_begin(f);
}

/* ---- asking ---- */

static struct flight *flight_new(
	struct map_ldap *m, const struct usermap_question *q, const struct map_cache_key *key)
{
	struct flight *f = xcalloc(1, sizeof(*f));

	f->map = map_ref(m);
	f->key = *key;
	f->epoch = map_cache_epoch(m->cache);
	list_init(&f->waiters);
	f->service = slice_copy_str(q->service);
	f->name = slice_copy_str(q->name);
	if (q->shown == USERMAP_SHOWN_PASSWORD)
		secret_set(&f->password, q->password);
	f->shown = q->shown;
	f->is_address = q->is_address;
	return f;
}

/* One that began before a flush is not joined after it. */
static struct flight *flight_find(struct map_ldap *m, const struct map_cache_key *key)
{
	struct flight *f = table_get(m->by_key, slice_of(key->digest, sizeof(key->digest)));

	return f && f->epoch == map_cache_epoch(m->cache) ? f : NULL;
}

static void flight_add(struct map_ldap *m, struct flight *f)
{
	if (f->shown != USERMAP_SHOWN_FETCH)
		(void)table_put(m->by_key, slice_of(f->key.digest, sizeof(f->key.digest)), f);
	list_add_last(&m->flights, &f->link);
}

int map_ldap_ask(struct map_ldap *m, const struct usermap_question *q, struct loop *loop, map_ldap_fn *fn,
	void *arg, struct map_ldap_answer *answer_out, struct map_ldap_request **request_out)
{
	struct map_cache_key key;
	struct map_cache_entry e;
	struct map_ldap_request *w;
	struct flight *f;
	bool is_begun;
	uint64_t got;

	map_cache_key(m->cache, q, &key);
	if (map_cache_get(m->cache, &key, &e, &got) && is_fresh(m, &e, clock_mono_ms() - got)) {
		metric_add(m->hits, 1);
		*answer_out = (struct map_ldap_answer){.is_cached = true};
		answer_from(answer_out, &e);
		return 1;
	}
	w = xcalloc(1, sizeof(*w));
	w->loop = loop;
	w->fn = fn;
	w->arg = arg;
	pthread_mutex_lock(&m->lock);
	f = flight_find(m, &key);
	is_begun = !f;
	if (is_begun) {
		f = flight_new(m, q, &key);
		f->is_posted = loop != m->home;
		flight_add(m, f);
	}
	list_add_last(&f->waiters, &w->link);
	pthread_mutex_unlock(&m->lock);
	metric_add(is_begun ? m->misses : m->joined, 1);
	*request_out = w;
	if (is_begun && loop == m->home)
		flight_start(f);
	else if (is_begun)
		loop_post(m->home, flight_start, f);
	return 0;
}

void map_ldap_cancel(struct map_ldap_request **request)
{
	if (*request)
		(*request)->fn = NULL;
	*request = NULL;
}

void map_ldap_end(struct map_ldap *m)
{
	struct list flights;

	list_init(&flights);
	pthread_mutex_lock(&m->lock);
	list_for_each_safe (at, &m->flights) {
		flight_remove(m, container_of(at, struct flight, link));
		list_add_last(&flights, at);
	}
	pthread_mutex_unlock(&m->lock);
	while (!list_is_empty(&flights)) {
		struct flight *f = container_of(flights.next, struct flight, link);

		list_remove(&f->link);
		while (!list_is_empty(&f->waiters)) {
			struct map_ldap_request *w =
				container_of(f->waiters.next, struct map_ldap_request, link);

			list_remove(&w->link);
			free(w);
		}
		f->is_ended = true;
		if (!f->is_posted)
			flight_free(f);
	}
}

void map_ldap_flush(struct map_ldap *m, struct slice name)
{
	map_cache_flush(m->cache, name);
}

size_t map_ldap_count(const struct map_ldap *m)
{
	return map_cache_count(m->cache);
}

struct directory *map_ldap_directory(const struct map_ldap *m)
{
	return m->directory;
}
