/*
 * A flight is one question on its way; whoever asks the same meanwhile is one more of its waiters.
 *
 *	ask -> cache? -> flight -> (home) search whole name -> none: search without detail -> entry -> check -> land
 *
 * The list of flights and their waiters is behind the login's lock; all else of a flight belongs to the home loop. An
 * answer that is "not now" is replaced by one that was right before, if that is not older than stale_ms, and if it was the
 * directory that could not say: an entry that has changed into one that nobody understands is no reason. A waiter that is
 * cancelled loses its fn and is freed when the flight lands.
 */
#include "common/auth/directory_login.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/num.h"
#include "common/base/table.h"
#include "common/directory/directory_text.h"
#include "common/proto/address.h"

#define AREA "directory"

enum column {
	COLUMN_HOST,
	COLUMN_PASSWORD,
	COLUMN_ACCOUNT,
	COLUMN_FLAGS,
	COLUMNS
};

struct directory_login {
	_Atomic unsigned refs;
	const char *kind;
	char *name, *base, *filter, *address_filter;
	bool by_bind;
	enum directory_several several;
	char *columns[COLUMNS];              /* attribute names, "" for none */
	const char *attributes[COLUMNS + 2]; /* what is asked for; NULL-ended */
	int column_at[COLUMNS];              /* where a column is in attributes; -1: not asked for */
	uint64_t positive_ms, negative_ms, stale_ms;
	struct directory_cache *cache;
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
	struct directory_login *login;
	struct directory_cache_key key;
	uint64_t epoch;
	struct list waiters;
	bool is_posted, is_ended;
	/* the question */
	char *service, *name;
	struct secret password;
	enum directory_login_want want;
	/* on its way */
	bool is_bare; /* asking without the detail */
	struct directory_request *request;
	struct credential_check *checking;
	struct directory_login_answer answer;
	char *dn;
	struct secret stored[DIRECTORY_LOGIN_STORED_MOST];
	size_t stored_count, stored_at;
	bool is_unsure; /* some stored text could not be judged */
	bool is_answered; /* the directory has answered, and what it said is of no use: memory says no more than it */
};

struct directory_login_request {
	struct list link;
	struct loop *loop;
	directory_login_fn *fn; /* NULL: cancelled; touched on its loop alone */
	void *arg;
	struct directory_login_answer answer;
	struct secret stored[DIRECTORY_LOGIN_STORED_MOST]; /* what the answer shows */
};

/* ---- the login ---- */

static void columns_set(struct directory_login *l, const struct directory_connector *c)
{
	const char *names[COLUMNS] = {c->host_attribute, l->by_bind ? "" : c->password_attribute,
		c->account_attribute, c->flags_attribute};
	int n = 0;

	for (int i = 0; i < COLUMNS; i++) {
		l->columns[i] = xstrdup(names[i]);
		l->column_at[i] = *names[i] ? n : -1;
		if (*names[i])
			l->attributes[n++] = l->columns[i];
	}
	if (!n)
		l->attributes[n++] = "1.1"; /* none at all, RFC 4511 section 4.5.1.8 */
}

static void metrics_find(struct directory_login *l)
{
	struct buf label = {0};

	buf_printf(&label, "%s=\"", l->kind);
	metrics_escape_label(&label, slice_str(l->name));
	buf_add_str(&label, "\"");
	l->hits = metrics_counter(
		"mailtier_directory_cache_hits", buf_str_view(&label), "Questions answered from memory");
	l->misses = metrics_counter(
		"mailtier_directory_cache_misses", buf_str_view(&label), "Questions put to the directory");
	l->joined = metrics_counter("mailtier_directory_cache_joined", buf_str_view(&label),
		"Questions that waited for the same one under way");
	l->stale = metrics_counter("mailtier_directory_cache_stale", buf_str_view(&label),
		"Questions answered from memory beyond its time, since the directory could not say");
	buf_deinit(&label);
}

struct directory_login *directory_login_new(const struct directory_login_options *o)
{
	const struct directory_connector *c = &o->connector->options;
	struct buf filter = {0};
	struct directory_login *l = xcalloc(1, sizeof(*l));

	atomic_init(&l->refs, 1);
	l->kind = o->kind;
	l->name = xstrdup(o->name);
	l->base = xstrdup(c->base);
	l->filter = xstrdup(c->filter);
	if (*c->address_filter)
		buf_add_str(&filter, c->address_filter);
	else
		directory_text_address_filter(&filter, c->person, c->account_attribute, c->alias_attributes);
	l->address_filter = xstrdup(buf_str_view(&filter));
	buf_deinit(&filter);
	l->by_bind = o->by_bind;
	l->several = c->several;
	columns_set(l, c);
	l->positive_ms = o->positive_ms;
	l->negative_ms = o->negative_ms;
	l->stale_ms = o->stale_ms;
	l->cache = directory_cache_new(o->cache_entries);
	l->directory = o->connector->directory;
	directory_hold(l->directory);
	l->home = o->home;
	l->credentials = o->credentials;
	l->hash_pool = o->hash_pool;
	pthread_mutex_init(&l->lock, NULL);
	list_init(&l->flights);
	l->by_key = table_new();
	metrics_find(l);
	return l;
}

struct directory_login *directory_login_ref(struct directory_login *login)
{
	atomic_fetch_add_explicit(&login->refs, 1, memory_order_relaxed);
	return login;
}

void directory_login_unref(struct directory_login **login)
{
	struct directory_login *l = *login;

	*login = NULL;
	if (!l || atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
		return;
	directory_cache_free(&l->cache);
	table_free(&l->by_key);
	pthread_mutex_destroy(&l->lock);
	for (size_t i = 0; i < COLUMNS; i++)
		free(l->columns[i]);
	free(l->name);
	free(l->base);
	free(l->filter);
	free(l->address_filter);
	directory_release(l->directory);
	free(l);
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
	directory_login_unref(&f->login);
	free(f);
}

static void waiter_tell(void *arg)
{
	struct directory_login_request *w = arg;
	directory_login_fn *fn = w->fn;

	for (size_t i = 0; i < w->answer.stored_count; i++)
		w->answer.stored[i] = secret_view(&w->stored[i]);
	if (fn)
		fn(w->arg, &w->answer);
	for (size_t i = 0; i < w->answer.stored_count; i++)
		secret_deinit(&w->stored[i]);
	free(w);
}

static bool is_fresh(const struct directory_login *l, const struct directory_cache_entry *e, uint64_t age_ms)
{
	return age_ms < (e->kind == DIRECTORY_CACHE_HIT ? l->positive_ms : l->negative_ms);
}

static void answer_from(struct directory_login_answer *a, const struct directory_cache_entry *e)
{
	a->verdict = e->kind == DIRECTORY_CACHE_HIT    ? DIRECTORY_LOGIN_HIT
		     : e->kind == DIRECTORY_CACHE_NONE ? DIRECTORY_LOGIN_NONE
						       : DIRECTORY_LOGIN_WRONG;
	a->entry = *e;
}

/* What was right before, while the directory cannot say. */
static void stale_serve(struct flight *f)
{
	struct directory_login *l = f->login;
	struct directory_cache_entry e;
	uint64_t got;

	if (directory_cache_get(l->cache, &f->key, &e, &got) && e.kind == DIRECTORY_CACHE_HIT &&
		clock_mono_ms() - got < l->stale_ms) {
		answer_from(&f->answer, &e);
		f->answer.is_cached = f->answer.is_stale = true;
		metric_add(l->stale, 1);
	}
}

static void remember(struct flight *f)
{
	struct directory_cache_entry *e = &f->answer.entry;

	e->kind = f->answer.verdict == DIRECTORY_LOGIN_HIT    ? DIRECTORY_CACHE_HIT
		  : f->answer.verdict == DIRECTORY_LOGIN_NONE ? DIRECTORY_CACHE_NONE
							      : DIRECTORY_CACHE_WRONG;
	directory_cache_put(f->login->cache, &f->key, f->epoch, clock_mono_ms(), e);
}

/* Under the lock. Another flight, begun after a flush, may have the place in the table. */
static void flight_remove(struct directory_login *l, struct flight *f)
{
	struct slice key = slice_of(f->key.digest, sizeof(f->key.digest));

	list_remove(&f->link);
	if (table_get(l->by_key, key) == f)
		(void)table_remove(l->by_key, key);
}

static void waiter_fill(struct directory_login_request *w, const struct flight *f)
{
	bool gives = f->want == DIRECTORY_LOGIN_FETCH && f->answer.verdict == DIRECTORY_LOGIN_HIT;

	w->answer = f->answer;
	w->answer.stored_count = gives ? f->stored_count : 0;
	for (size_t i = 0; i < w->answer.stored_count; i++)
		secret_set(&w->stored[i], secret_view(&f->stored[i]));
}

/* The flight is over: nobody can join it any more, all waiters are told. */
static void land(struct flight *f, enum directory_login_verdict verdict)
{
	struct directory_login *l = f->login;
	struct loop *home = l->home;
	struct list waiters;

	f->answer.verdict = verdict;
	if (verdict != DIRECTORY_LOGIN_NOT_NOW && f->want != DIRECTORY_LOGIN_FETCH)
		remember(f);
	else if (f->want != DIRECTORY_LOGIN_FETCH && !f->is_answered)
		stale_serve(f);
	list_init(&waiters);
	pthread_mutex_lock(&l->lock);
	flight_remove(l, f);
	list_move_all(&waiters, &f->waiters);
	pthread_mutex_unlock(&l->lock);
	list_for_each (at, &waiters)
		waiter_fill(container_of(at, struct directory_login_request, link), f);
	flight_free(f);
	while (!list_is_empty(&waiters)) {
		struct directory_login_request *w =
			container_of(waiters.next, struct directory_login_request, link);

		list_remove(&w->link);
		if (w->loop == home)
			waiter_tell(w);
		else
			loop_post(w->loop, waiter_tell, w);
	}
}

/* The entry is of no use; why is in the log. */
static void land_useless(struct flight *f)
{
	f->is_answered = true;
	land(f, DIRECTORY_LOGIN_NOT_NOW);
}

/* ---- what an entry says ---- */

static struct slice value_of(
	const struct flight *f, const struct directory_found *found, enum column column, size_t n)
{
	int at = f->login->column_at[column];
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
	error = value.len > 2 * DIRECTORY_CACHE_ACCOUNT_MOST ? ERR_SYNTAX
							     : address_normalise_whole(&a, value, &n);
	if (!error && n.full.len > DIRECTORY_CACHE_ACCOUNT_MOST)
		error = ERR_TOO_BIG;
	if (!error)
		copy_text(f->answer.entry.account, sizeof(f->answer.entry.account), n.full);
	arena_deinit(&a);
	return error;
}

/* All values of the host attribute, in the order that the server sent them: each may be a list itself. */
static int host_set(struct flight *f, const struct directory_found *found)
{
	char *to = f->answer.entry.host;
	size_t used = 0;

	for (size_t i = 0;; i++) {
		struct slice value = slice_trim(value_of(f, found, COLUMN_HOST, i));

		if (!value.len)
			break;
		if (slice_has_control(value) || used + value.len + 1 > DIRECTORY_CACHE_TEXT_MOST)
			return ERR_TOO_BIG;
		if (used)
			to[used++] = ',';
		copy_text(to + used, DIRECTORY_CACHE_TEXT_MOST + 1 - used, value);
		used += value.len;
	}
	return 0;
}

#define ACCOUNT_DISABLED 2 /* of Active Directory's userAccountControl */

/* True: the account is switched off. Words that mean nothing here are another program's. */
static bool flags_take(struct flight *f, const struct directory_found *found)
{
	bool is_disabled = false;

	for (size_t i = 0; i < LDAP_CLIENT_VALUES_MOST; i++) {
		struct slice value = slice_trim(value_of(f, found, COLUMN_FLAGS, i));
		uint32_t bits = 0;

		is_disabled |= slice_is_str_nocase(value, "disabled") ||
			       (!num_parse_u32(value, &bits) && bits & ACCOUNT_DISABLED);
		f->answer.entry.send_only |= slice_is_str_nocase(value, "send-only");
	}
	return is_disabled;
}

/* A value without a scheme is the password itself. */
static void stored_take(struct flight *f, const struct directory_found *found)
{
	for (size_t i = 0; i < DIRECTORY_LOGIN_STORED_MOST; i++) {
		struct slice value = value_of(f, found, COLUMN_PASSWORD, i);
		struct buf clear = {0};
		const char *reason;

		if (!value.len)
			continue;
		/* A NUL would end it for others. */
		if (value.len > PASSWORD_STORED_MOST || slice_find(value, 0) >= 0) {
			f->is_unsure = true;
			continue;
		}
		if (!slice_has_prefix(value, "{") && password_stored_check(value, &reason)) {
			(void)buf_reserve(&clear, sizeof("{PLAIN}") + value.len); /* so that it never moves */
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
		land(f, DIRECTORY_LOGIN_HIT);
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
	struct credential c = {.realm = slice_str(f->login->name),
		.service = slice_str(f->service),
		.user = slice_str(f->name),
		.password = secret_view(&f->password)};
	int verdict;

	if (f->stored_at == f->stored_count) {
		if (f->is_unsure)
			log_warn(AREA, "a stored password cannot be judged %s=%s user=%s", f->login->kind,
				f->login->name, f->name);
		if (f->is_unsure)
			land_useless(f);
		else
			land(f, DIRECTORY_LOGIN_WRONG);
		return;
	}
	c.stored = secret_view(&f->stored[f->stored_at]);
	if (credential_check(f->login->credentials, f->login->hash_pool, f->login->home, &c, on_checked, f,
		    &verdict, &f->checking))
		checked(f, verdict);
}

/* A user who cannot come in with the right password will ask somebody why. */
static void refusal_log(const struct flight *f, const char *reason)
{
	bool is_password;
	const char *words = ldap_client_refusal(reason, &is_password);

	if (words && !is_password)
		log_info(AREA, "bind refused, %s %s=%s user=%s", words, f->login->kind, f->login->name,
			f->name);
}

static void on_bound(void *arg, int error, const struct directory_found *found, const char *reason)
{
	struct flight *f = arg;

	(void)found;
	f->request = NULL;
	if (!error)
		f->answer.entry.is_checked = true;
	else if (error == ERR_DENIED)
		refusal_log(f, reason);
	else
		log_warn(AREA, "bind failed %s=%s user=%s: %s", f->login->kind, f->login->name, f->name,
			reason);
	land(f, !error                ? DIRECTORY_LOGIN_HIT
		: error == ERR_DENIED ? DIRECTORY_LOGIN_WRONG
				      : DIRECTORY_LOGIN_NOT_NOW);
}

static void check_begin(struct flight *f, const struct directory_found *found)
{
	struct directory_login *l = f->login;

	if (!l->by_bind)
		stored_take(f, found);
	f->answer.entry.can_check =
		f->stored_count > 0 || f->is_unsure || (l->by_bind && f->want != DIRECTORY_LOGIN_FETCH);
	if (f->want != DIRECTORY_LOGIN_CHECK || !f->answer.entry.can_check) {
		land(f, DIRECTORY_LOGIN_HIT);
	} else if (!password_is_acceptable(secret_view(&f->password))) {
		land(f, DIRECTORY_LOGIN_WRONG);
	} else if (l->by_bind) {
		f->dn = xstrdup(found->dn);
		directory_bind(l->directory, f->dn, secret_view(&f->password), on_bound, f, &f->request);
	} else {
		check_next(f);
	}
}

/* ---- the search ---- */

static void search_begin(struct flight *f);

static void entry_found(struct flight *f, const struct directory_found *found)
{
	struct directory_login *l = f->login;
	struct slice dn = slice_sub(slice_str(found->dn), 0, DIRECTORY_CACHE_DN_MOST);

	copy_text(f->answer.entry.dn, sizeof(f->answer.entry.dn), dn);
	if (found->several && l->several == DIRECTORY_SEVERAL_ERROR) {
		log_error(AREA, "more than one entry fits: not now %s=%s user=%s", l->kind, l->name, f->name);
		land_useless(f);
		return;
	}
	if (found->several)
		log_warn(AREA, "more than one entry fits, the first is taken %s=%s user=%s entry=%s", l->kind,
			l->name, f->name, found->dn);
	if (account_set(f, found)) {
		log_error(AREA, "the account attribute is no address: not now %s=%s user=%s entry=%s",
			l->kind, l->name, f->name, found->dn);
		land_useless(f);
	} else if (host_set(f, found)) {
		log_error(AREA, "the host attribute is too long, or no text: not now %s=%s user=%s entry=%s",
			l->kind, l->name, f->name, found->dn);
		land_useless(f);
	} else if (flags_take(f, found) && f->want != DIRECTORY_LOGIN_ADDRESS) {
		log_info(AREA, "the account is disabled %s=%s user=%s", l->kind, l->name, f->name);
		land(f, DIRECTORY_LOGIN_WRONG);
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
		log_debug(AREA, "the directory cannot say %s=%s user=%s: %s", f->login->kind, f->login->name,
			f->name, reason);
		land(f, DIRECTORY_LOGIN_NOT_NOW);
		return;
	}
	bare = f->is_bare ? NULL : bare_name(f->name);
	if (!bare) {
		land(f, DIRECTORY_LOGIN_NONE);
		return;
	}
	free(bare);
	f->is_bare = true;
	search_begin(f);
}

/* What is asked about a name: filter and base with everything in its place. */
static void question_text(const struct directory_login *l, enum directory_login_want want,
	const struct directory_text_names *names, struct buf *filter, struct buf *base)
{
	directory_text_filter(
		filter, slice_str(want == DIRECTORY_LOGIN_ADDRESS ? l->address_filter : l->filter), names);
	directory_text_base(base, slice_str(l->base), names);
}

static void search_begin(struct flight *f)
{
	struct directory_login *l = f->login;
	struct buf filter = {0}, base = {0};
	char *bare = f->is_bare ? bare_name(f->name) : NULL;
	const struct directory_text_names names = {
		.name = slice_str(bare ? bare : f->name), .service = slice_str(f->service)};
	struct directory_search search = {.attributes = l->attributes};

	question_text(l, f->want, &names, &filter, &base);
	search.filter = buf_str_view(&filter);
	search.base = buf_str_view(&base);
	directory_search(l->directory, &search, on_found, f, &f->request);
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

static struct flight *flight_new(struct directory_login *l, const struct directory_login_question *q,
	const struct directory_cache_key *key)
{
	struct flight *f = xcalloc(1, sizeof(*f));

	f->login = directory_login_ref(l);
	f->key = *key;
	f->epoch = directory_cache_epoch(l->cache);
	list_init(&f->waiters);
	f->service = slice_copy_str(q->service);
	f->name = slice_copy_str(q->name);
	f->want = q->want;
	if (q->want == DIRECTORY_LOGIN_CHECK)
		secret_set(&f->password, q->password);
	return f;
}

/* One that began before a flush is not joined after it. */
static struct flight *flight_find(struct directory_login *l, const struct directory_cache_key *key)
{
	struct flight *f = table_get(l->by_key, slice_of(key->digest, sizeof(key->digest)));

	return f && f->epoch == directory_cache_epoch(l->cache) ? f : NULL;
}

static void flight_add(struct directory_login *l, struct flight *f)
{
	(void)table_put(l->by_key, slice_of(f->key.digest, sizeof(f->key.digest)), f);
	list_add_last(&l->flights, &f->link);
}

int directory_login_ask(struct directory_login *l, const struct directory_login_question *q,
	struct loop *loop, directory_login_fn *fn, void *arg, struct directory_login_answer *answer_out,
	struct directory_login_request **request_out)
{
	struct directory_cache_key key;
	struct directory_cache_entry e;
	struct directory_login_request *w;
	struct flight *f;
	bool is_begun;
	uint64_t got;

	directory_cache_key(l->cache,
		&(struct directory_cache_question){.service = q->service,
			.name = q->name,
			.password = q->want == DIRECTORY_LOGIN_CHECK ? q->password : slice_of(NULL, 0),
			.wanted = q->want},
		&key);
	if (q->want != DIRECTORY_LOGIN_FETCH && directory_cache_get(l->cache, &key, &e, &got) &&
		is_fresh(l, &e, clock_mono_ms() - got)) {
		metric_add(l->hits, 1);
		*answer_out = (struct directory_login_answer){.is_cached = true};
		answer_from(answer_out, &e);
		return 1;
	}
	w = xcalloc(1, sizeof(*w));
	w->loop = loop;
	w->fn = fn;
	w->arg = arg;
	pthread_mutex_lock(&l->lock);
	f = flight_find(l, &key);
	is_begun = !f;
	if (is_begun) {
		f = flight_new(l, q, &key);
		f->is_posted = loop != l->home;
		flight_add(l, f);
	}
	list_add_last(&f->waiters, &w->link);
	pthread_mutex_unlock(&l->lock);
	metric_add(is_begun ? l->misses : l->joined, 1);
	*request_out = w;
	if (is_begun && loop == l->home)
		flight_start(f);
	else if (is_begun)
		loop_post(l->home, flight_start, f);
	return 0;
}

void directory_login_texts(const struct directory_login_answer *a, struct secret *texts_out)
{
	struct buf texts = {0};
	size_t room = 0;

	for (size_t i = 0; i < a->stored_count; i++)
		room += a->stored[i].len + 1;
	(void)buf_reserve(&texts, room); /* so that it never moves */
	for (size_t i = 0; i < a->stored_count; i++) {
		buf_add_slice(&texts, a->stored[i]);
		buf_add_char(&texts, 0);
	}
	secret_set(texts_out, buf_view(&texts));
	if (texts.data)
		secret_wipe(texts.data, texts.cap);
	buf_deinit(&texts);
}

void directory_login_cancel(struct directory_login_request **request)
{
	if (*request)
		(*request)->fn = NULL;
	*request = NULL;
}

void directory_login_end(struct directory_login *l)
{
	struct list flights;

	list_init(&flights);
	pthread_mutex_lock(&l->lock);
	list_for_each_safe (at, &l->flights) {
		flight_remove(l, container_of(at, struct flight, link));
		list_add_last(&flights, at);
	}
	pthread_mutex_unlock(&l->lock);
	while (!list_is_empty(&flights)) {
		struct flight *f = container_of(flights.next, struct flight, link);

		list_remove(&f->link);
		while (!list_is_empty(&f->waiters)) {
			struct directory_login_request *w =
				container_of(f->waiters.next, struct directory_login_request, link);

			list_remove(&w->link);
			free(w);
		}
		f->is_ended = true;
		if (!f->is_posted)
			flight_free(f);
	}
}

void directory_login_flush(struct directory_login *l, struct slice name)
{
	directory_cache_flush(l->cache, name);
}

size_t directory_login_count(const struct directory_login *l)
{
	return directory_cache_count(l->cache);
}

struct directory *directory_login_directory(const struct directory_login *l)
{
	return l->directory;
}

void directory_login_describe(
	const struct directory_login *l, const struct directory_login_question *q, struct buf *out)
{
	const struct directory_text_names names = {.name = q->name, .service = q->service};
	struct buf filter = {0}, base = {0};

	question_text(l, q->want, &names, &filter, &base);
	buf_printf(out, "%s below %s", buf_str_view(&filter), buf_str_view(&base));
	buf_deinit(&filter);
	buf_deinit(&base);
}
