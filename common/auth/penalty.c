/*
 * Three tables of sets of WAYS places, cut into shards with a lock each: addresses and users with their failures, users with the
 * addresses that are known good for them. A key's low bits choose shard and set.
 *
 * Who may take whose place? Attackers choose names and addresses at will, so:
 *   - a set that is full gives up the record with the fewest failures, and only if these are no more than the newcomer's one;
 *     otherwise the newcomer is not held, and the lowest record loses one failure for it. A flood of names that fail once
 *     pushes out others of its kind and no record that matters; one that goes on for long wears records down one by one, and
 *     cannot keep a real attacker's record out for ever.
 *   - a record with waiting logins stays.
 *   - known good addresses are written by successful logins alone, at most PENALTY_KNOWN_MOST of a user, all his details
 *     together, in one place: whoever has one valid password can displace nothing but addresses of his own.
 *
 *	user key = xxh3 with a secret seed of the name; its +detail does not count
 *	address key = the same of at most 8 octets, which is one to one
 *	pair key = the same of the address key and the name with its detail, if it has one: who owns alice+x is known good for
 *	           alice+x alone
 *	tries = 32 bits of HMAC-SHA256(key, user key, password): the last TRIES that counted
 */
#include "common/auth/penalty.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/random.h"
#include "common/base/secret.h"
#include "common/base/table.h"
#include "common/crypto/digest.h"

#define SHARDS 64
#define WAYS 8
#define TRIES 8
#define PREFIX_MOST 8 /* octets of an IPv6 address that count */

struct record {
	uint64_t at_ms; /* since when failures are forgotten */
	uint64_t last_ms;
	uint32_t tries[TRIES];
	uint16_t score, try_at;
	uint32_t waiting;
	char name[PENALTY_NAME_MOST + 1]; /* an address: its octets */
};

/* Keys apart: most looks find nothing, and touch one line of the cache. 0: free. */
struct records {
	uint64_t keys[WAYS];
	struct record at[WAYS];
};

struct known {
	uint64_t pairs[PENALTY_KNOWN_MOST]; /* 0: free */
	uint32_t at_s[PENALTY_KNOWN_MOST];
};

struct knowns {
	uint64_t keys[WAYS]; /* of users */
	struct known at[WAYS];
};

struct shard {
	pthread_mutex_t lock;
	struct records *addresses, *users;
	struct knowns *known;
};

struct penalty {
	struct shard shards[SHARDS];
	size_t sets, known_sets; /* of a shard; powers of two */
	uint8_t key[DIGEST_SHA256_LEN];
	uint64_t seed, name_seed;
	_Atomic uint64_t delay_ms, most_ms, decay_ms, known_ms;
	_Atomic unsigned free, waiting;
	struct metric *delayed, *refused, *failures, *repeated, *passed_known, *not_held;
	struct metric *held_addresses, *held_users, *waiting_now;
};

/* ---- keys ---- */

static uint64_t not_zero(uint64_t key)
{
	return key ? key : 1;
}

static uint64_t name_key(const struct penalty *p, struct slice name)
{
	return not_zero(hash_bytes(name, p->name_seed));
}

/* alice+lists@example.com is alice@example.com: otherwise each detail would be a fresh account to guess at. */
static struct slice without_detail(struct slice name, char *room, size_t size)
{
	ptrdiff_t at = slice_find_last(name, '@');
	struct slice local = slice_sub(name, 0, at < 0 ? name.len : (size_t)at);
	ptrdiff_t plus = slice_find(local, '+');
	struct slice domain = slice_from(name, local.len);

	if (plus <= 0 || (size_t)plus + domain.len > size)
		return name;
	memcpy(room, name.p, (size_t)plus);
	if (domain.len)
		memcpy(room + plus, domain.p, domain.len);
	return slice_of(room, (size_t)plus + domain.len);
}

/* The octets by which a client is counted; 0: it has no IP address. */
static uint8_t prefix_of(const struct addr *client, uint8_t prefix[16])
{
	if (client->len && client->ss.ss_family == AF_INET) {
		memcpy(prefix, &((const struct sockaddr_in *)&client->ss)->sin_addr, 4);
		return 4;
	}
	if (client->len && client->ss.ss_family == AF_INET6) {
		const struct in6_addr *a = &((const struct sockaddr_in6 *)&client->ss)->sin6_addr;

		if (IN6_IS_ADDR_V4MAPPED(a)) {
			memcpy(prefix, &a->s6_addr[12], 4);
			return 4;
		}
		memcpy(prefix, a, PREFIX_MOST);
		return PREFIX_MOST;
	}
	return 0;
}

static uint64_t prefix_key(const struct penalty *p, const uint8_t *prefix, size_t len)
{
	return not_zero(hash_bytes(slice_of(prefix, len), p->seed));
}

static uint64_t pair_key(const struct penalty *p, uint64_t address, uint64_t name)
{
	const uint64_t both[] = {address, name};

	return not_zero(hash_bytes(slice_of(both, sizeof(both)), p->seed));
}

static uint32_t try_digest(const struct penalty *p, uint64_t user, struct slice password)
{
	char text[1024 + sizeof(user)];
	uint8_t digest[DIGEST_SHA256_LEN];
	size_t len = password.len < sizeof(text) - sizeof(user) ? password.len : sizeof(text) - sizeof(user);
	uint32_t out;

	if (!password.len)
		return 0;
	memcpy(text, &user, sizeof(user));
	memcpy(text + sizeof(user), password.p, len);
	digest_hmac(
		DIGEST_SHA256, slice_of(p->key, sizeof(p->key)), slice_of(text, sizeof(user) + len), digest);
	secret_wipe(text, sizeof(text));
	memcpy(&out, digest, sizeof(out));
	return out ? out : 1;
}

/* ---- records, under their shard's lock ---- */

static struct shard *shard_of(const struct penalty *p, uint64_t key)
{
	return (struct shard *)&p->shards[key % SHARDS];
}

static struct records *set_of(struct records *table, const struct penalty *p, uint64_t key)
{
	return table + (key / SHARDS & (p->sets - 1));
}

static struct record *find(struct records *set, uint64_t key)
{
	for (size_t i = 0; i < WAYS; i++) {
		if (set->keys[i] == key)
			return &set->at[i];
	}
	return NULL;
}

/* What time has forgotten since the last look. */
static void settle(const struct penalty *p, struct record *r, uint64_t now)
{
	uint64_t decay = atomic_load_explicit(&p->decay_ms, memory_order_relaxed);
	/* Another thread may have looked at a later clock. */
	uint64_t gone = decay && now > r->at_ms ? (now - r->at_ms) / decay : 0;

	if (gone >= r->score) {
		r->score = 0;
		r->at_ms = now;
	} else {
		r->score = (uint16_t)(r->score - gone);
		r->at_ms += gone * decay;
	}
}

static uint64_t delay_of(const struct penalty *p, unsigned score)
{
	uint64_t delay = atomic_load_explicit(&p->delay_ms, memory_order_relaxed);
	uint64_t most = atomic_load_explicit(&p->most_ms, memory_order_relaxed);
	unsigned free_of = atomic_load_explicit(&p->free, memory_order_relaxed);

	if (score <= free_of)
		return 0;
	for (unsigned i = score - free_of - 1; i && delay < most; i--)
		delay *= 2;
	return delay < most ? delay : most;
}

/* The record of this key, its own or a new one; NULL: all in the set matter more, and the least of them has paid for it. */
static struct record *make(
	struct penalty *p, struct records *set, uint64_t key, struct metric *held, uint64_t now)
{
	struct record *r = find(set, key);

	if (r)
		return r;
	for (size_t i = 0; i < WAYS; i++) {
		struct record *other = &set->at[i];

		settle(p, other, now);
		if (other->waiting)
			continue;
		if (!r || other->score < r->score ||
			(other->score == r->score && other->last_ms < r->last_ms))
			r = other;
	}
	if (!r || r->score > 1) {
		metric_add(p->not_held, 1);
		if (r)
			r->score--;
		return NULL;
	}
	metric_add(held, set->keys[r - set->at] == 0);
	set->keys[r - set->at] = key;
	*r = (struct record){.at_ms = now, .last_ms = now};
	return r;
}

/* False: the same was tried before. */
static bool is_new_try(struct record *r, uint32_t digest)
{
	for (size_t i = 0; digest && i < TRIES; i++) {
		if (r->tries[i] == digest)
			return false;
	}
	r->tries[r->try_at++ % TRIES] = digest;
	return true;
}

/* One more failure; true if it counts. */
static bool record_failure(struct penalty *p, struct record *r, uint32_t digest, uint64_t now)
{
	settle(p, r, now);
	r->last_ms = now;
	if (!is_new_try(r, digest))
		return false;
	if (r->score < PENALTY_SCORE_MOST)
		r->score++;
	return true;
}

/* ---- known good ---- */

static struct knowns *known_set_of(const struct penalty *p, uint64_t user)
{
	return shard_of(p, user)->known + (user / SHARDS & (p->known_sets - 1));
}

static struct known *known_find(struct knowns *set, uint64_t user)
{
	for (size_t i = 0; i < WAYS; i++) {
		if (set->keys[i] == user)
			return &set->at[i];
	}
	return NULL;
}

static uint32_t seconds(uint64_t now_ms)
{
	return (uint32_t)(now_ms / 1000);
}

static bool is_known(const struct penalty *p, const struct penalty_attempt *a, uint64_t now)
{
	uint64_t lifetime = atomic_load_explicit(&p->known_ms, memory_order_relaxed);
	struct shard *s = shard_of(p, a->user);
	const struct known *k;
	bool known = false;

	if (!lifetime)
		return false;
	pthread_mutex_lock(&s->lock);
	k = known_find(known_set_of(p, a->user), a->user);
	for (size_t i = 0; k && i < PENALTY_KNOWN_MOST; i++)
		known |= k->pairs[i] == a->pair && now < (uint64_t)k->at_s[i] * 1000 + lifetime;
	pthread_mutex_unlock(&s->lock);
	return known;
}

static uint32_t latest(const struct known *k)
{
	uint32_t at = 0;

	for (size_t i = 0; i < PENALTY_KNOWN_MOST; i++)
		at = k->at_s[i] > at ? k->at_s[i] : at;
	return at;
}

/* The user's place, or the place of him who has not logged in for longest. */
static struct known *known_place(struct knowns *set, uint64_t user)
{
	struct known *k = known_find(set, user);
	size_t oldest = 0;

	if (k)
		return k;
	for (size_t i = 1; i < WAYS; i++) {
		if (latest(&set->at[i]) < latest(&set->at[oldest]))
			oldest = i;
	}
	set->keys[oldest] = user;
	set->at[oldest] = (struct known){{0}, {0}};
	return &set->at[oldest];
}

static void add_known(struct penalty *p, const struct penalty_attempt *a, uint64_t now)
{
	struct shard *s = shard_of(p, a->user);
	struct known *k;
	size_t at = 0;

	pthread_mutex_lock(&s->lock);
	k = known_place(known_set_of(p, a->user), a->user);
	for (size_t i = 0; i < PENALTY_KNOWN_MOST; i++) {
		if (k->pairs[i] == a->pair) {
			at = i;
			break;
		}
		if (k->at_s[i] < k->at_s[at])
			at = i;
	}
	k->pairs[at] = a->pair;
	k->at_s[at] = seconds(now);
	pthread_mutex_unlock(&s->lock);
}

/* ---- life ---- */

static size_t sets_for(size_t entries)
{
	size_t sets = 1;

	while (sets * WAYS * SHARDS < entries)
		sets *= 2;
	return sets;
}

static void make_metrics(struct penalty *p)
{
	p->delayed = metrics_counter("mailtier_auth_penalty_delayed", NULL,
		"Logins that had to wait for failures of their address or user");
	p->refused = metrics_counter("mailtier_auth_penalty_refused", NULL,
		"Logins refused since too many of their address were waiting");
	p->failures = metrics_counter("mailtier_auth_penalty_failures", NULL,
		"Failed logins that counted for an address or a user");
	p->repeated = metrics_counter("mailtier_auth_penalty_repeated", NULL,
		"Failed logins that did not count: the same password again");
	p->passed_known = metrics_counter("mailtier_auth_penalty_known_good", NULL,
		"Logins that did not wait since the address is known good for the user");
	p->not_held = metrics_counter("mailtier_auth_penalty_not_held", NULL,
		"Failures of new addresses and users for whom there was no place");
	p->waiting_now = metrics_gauge("mailtier_auth_penalty_waiting", NULL, "Logins that are waiting");
	p->held_addresses = metrics_gauge("mailtier_auth_penalty_entries", "kind=\"address\"",
		"Places of records of failures that are taken");
	p->held_users = metrics_gauge("mailtier_auth_penalty_entries", "kind=\"user\"",
		"Places of records of failures that are taken");
}

struct penalty *penalty_new(size_t entries, size_t known, const struct penalty_limits *limits)
{
	struct penalty *p = xcalloc(1, sizeof(*p));

	p->sets = sets_for(entries);
	p->known_sets = sets_for(known);
	random_bytes(p->key, sizeof(p->key));
	random_bytes(&p->seed, sizeof(p->seed));
	random_bytes(&p->name_seed, sizeof(p->name_seed));
	for (size_t i = 0; i < SHARDS; i++) {
		struct shard *s = &p->shards[i];

		pthread_mutex_init(&s->lock, NULL);
		s->addresses = xcalloc(p->sets, sizeof(*s->addresses));
		s->users = xcalloc(p->sets, sizeof(*s->users));
		s->known = xcalloc(p->known_sets, sizeof(*s->known));
	}
	penalty_set_limits(p, limits);
	make_metrics(p);
	return p;
}

void penalty_free(struct penalty **penalty)
{
	struct penalty *p = *penalty;

	*penalty = NULL;
	if (!p)
		return;
	metric_set(p->held_addresses, 0);
	metric_set(p->held_users, 0);
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_destroy(&p->shards[i].lock);
		free(p->shards[i].addresses);
		free(p->shards[i].users);
		free(p->shards[i].known);
	}
	secret_wipe((char *)p->key, sizeof(p->key));
	free(p);
}

void penalty_set_limits(struct penalty *p, const struct penalty_limits *limits)
{
	atomic_store(&p->delay_ms, limits->delay_ms);
	atomic_store(&p->most_ms, limits->most_ms);
	atomic_store(&p->decay_ms, limits->decay_ms);
	atomic_store(&p->known_ms, limits->known_ms);
	atomic_store(&p->free, limits->free);
	atomic_store(&p->waiting, limits->waiting);
}

/* ---- a login ---- */

static void fill(struct penalty *p, const struct addr *client, struct slice user, struct penalty_attempt *a)
{
	char room[512];
	struct slice plain = without_detail(user, room, sizeof(room));
	size_t shown = plain.len < PENALTY_NAME_MOST ? plain.len : PENALTY_NAME_MOST;

	*a = (struct penalty_attempt){0};
	a->prefix_len = prefix_of(client, a->prefix);
	if (!a->prefix_len)
		return;
	a->penalty = p;
	a->address = prefix_key(p, a->prefix, a->prefix_len);
	a->user = name_key(p, plain);
	a->pair = pair_key(p, a->address, plain.p == user.p ? a->user : name_key(p, user));
	if (shown)
		memcpy(a->name, plain.p, shown);
}

static unsigned score_of(struct penalty *p, bool is_user, uint64_t key, uint64_t now)
{
	struct shard *s = shard_of(p, key);
	struct record *r;
	unsigned score = 0;

	pthread_mutex_lock(&s->lock);
	r = find(set_of(is_user ? s->users : s->addresses, p, key), key);
	if (r) {
		settle(p, r, now);
		score = r->score;
	}
	pthread_mutex_unlock(&s->lock);
	return score;
}

static void name_address(struct record *r, const struct penalty_attempt *a)
{
	r->name[0] = (char)a->prefix_len;
	memcpy(r->name + 1, a->prefix, sizeof(a->prefix));
}

/* One more that waits for this address. An address for which there is no place waits uncounted. */
static int begin_waiting(struct penalty *p, struct penalty_attempt *a, uint64_t now)
{
	struct shard *s = shard_of(p, a->address);
	struct record *r;
	int err = 0;

	pthread_mutex_lock(&s->lock);
	r = make(p, set_of(s->addresses, p, a->address), a->address, p->held_addresses, now);
	if (r && r->waiting >= atomic_load_explicit(&p->waiting, memory_order_relaxed)) {
		err = ERR_FULL;
	} else if (r) {
		name_address(r, a);
		r->waiting++;
		a->is_waiting = true;
	}
	pthread_mutex_unlock(&s->lock);
	if (a->is_waiting)
		metric_add(p->waiting_now, 1);
	return err;
}

int penalty_begin(struct penalty *p, const struct addr *client, struct slice user, struct penalty_attempt *a,
	uint64_t *wait_ms_out)
{
	uint64_t now = clock_mono_ms(), by_address, by_user;
	int err;

	*a = (struct penalty_attempt){0};
	*wait_ms_out = 0;
	if (!p || !atomic_load_explicit(&p->delay_ms, memory_order_relaxed))
		return 0;
	fill(p, client, user, a);
	if (!a->penalty)
		return 0;
	by_address = delay_of(p, score_of(p, false, a->address, now));
	by_user = delay_of(p, score_of(p, true, a->user, now));
	if (!by_address && !by_user)
		return 0;
	if (is_known(p, a, now)) {
		metric_add(p->passed_known, 1);
		return 0;
	}
	err = begin_waiting(p, a, now);
	if (err) {
		metric_add(p->refused, 1);
		*a = (struct penalty_attempt){0};
		return err;
	}
	metric_add(p->delayed, 1);
	*wait_ms_out = by_address > by_user ? by_address : by_user;
	return 0;
}

void penalty_waited(struct penalty_attempt *a)
{
	struct penalty *p = a->penalty;
	struct shard *s;
	struct record *r;

	if (!a->is_waiting)
		return;
	a->is_waiting = false;
	s = shard_of(p, a->address);
	pthread_mutex_lock(&s->lock);
	r = find(set_of(s->addresses, p, a->address), a->address);
	if (r && r->waiting)
		r->waiting--;
	pthread_mutex_unlock(&s->lock);
	metric_add(p->waiting_now, -1);
}

static bool fail_address(struct penalty *p, const struct penalty_attempt *a, uint32_t digest, uint64_t now)
{
	struct shard *s = shard_of(p, a->address);
	struct record *r;
	bool counts = true;

	pthread_mutex_lock(&s->lock);
	r = make(p, set_of(s->addresses, p, a->address), a->address, p->held_addresses, now);
	if (r) {
		name_address(r, a);
		counts = record_failure(p, r, digest, now);
	}
	pthread_mutex_unlock(&s->lock);
	return counts;
}

static bool fail_user(struct penalty *p, const struct penalty_attempt *a, uint32_t digest, uint64_t now)
{
	struct shard *s = shard_of(p, a->user);
	struct record *r;
	bool counts = true;

	pthread_mutex_lock(&s->lock);
	r = make(p, set_of(s->users, p, a->user), a->user, p->held_users, now);
	if (r) {
		memcpy(r->name, a->name, sizeof(r->name));
		counts = record_failure(p, r, digest, now);
	}
	pthread_mutex_unlock(&s->lock);
	return counts;
}

void penalty_failed(struct penalty_attempt *a, struct slice password)
{
	struct penalty *p = a->penalty;
	uint64_t now = clock_mono_ms();
	uint32_t digest;
	bool by_address, by_user;

	penalty_waited(a);
	if (!p)
		return;
	digest = try_digest(p, a->user, password);
	by_address = fail_address(p, a, digest, now);
	by_user = fail_user(p, a, digest, now);
	metric_add(by_address || by_user ? p->failures : p->repeated, 1);
	a->penalty = NULL;
}

void penalty_passed(struct penalty_attempt *a)
{
	penalty_waited(a);
	if (a->penalty && atomic_load_explicit(&a->penalty->known_ms, memory_order_relaxed))
		add_known(a->penalty, a, clock_mono_ms());
	a->penalty = NULL;
}

/* ---- for operators ---- */

static void write_prefix(const uint8_t *prefix, size_t len, char *name, size_t size)
{
	char host[INET6_ADDRSTRLEN];
	uint8_t address[16] = {0};

	memcpy(address, prefix, len);
	inet_ntop(len == 4 ? AF_INET : AF_INET6, address, host, sizeof(host));
	snprintf(name, size, "%s%s", host, len == 4 ? "" : "/64");
}

void penalty_address_name(const struct addr *client, char *name, size_t size)
{
	uint8_t prefix[16];
	size_t len = prefix_of(client, prefix);

	*name = '\0';
	if (len)
		write_prefix(prefix, len, name, size);
}

static const char *name_of(const struct record *r, bool is_user, char *text, size_t size)
{
	if (is_user)
		return r->name;
	write_prefix((const uint8_t *)r->name + 1, r->name[0] == 4 ? 4 : PREFIX_MOST, text, size);
	return text;
}

static void show_set(
	const struct penalty *p, struct records *set, bool is_user, penalty_each_fn *fn, void *arg)
{
	uint64_t now = clock_mono_ms();

	for (size_t i = 0; i < WAYS; i++) {
		char text[INET6_ADDRSTRLEN + 8];
		struct record *r = &set->at[i];

		settle(p, r, now);
		if (!set->keys[i] || !(r->score || r->waiting))
			continue;
		fn(arg, &(struct penalty_record){
				.is_user = is_user,
				.name = name_of(r, is_user, text, sizeof(text)),
				.failures = r->score,
				.delay_ms = delay_of(p, r->score),
				.waiting = r->waiting,
				.since_ms = now > r->last_ms ? now - r->last_ms : 0,
			});
	}
}

bool penalty_each(const struct penalty *p, size_t *at, penalty_each_fn *fn, void *arg)
{
	struct shard *s = (struct shard *)&p->shards[*at % SHARDS];
	struct records addresses, users;

	if (*at >= p->sets * SHARDS)
		return false;
	pthread_mutex_lock(&s->lock);
	addresses = s->addresses[*at / SHARDS];
	users = s->users[*at / SHARDS];
	pthread_mutex_unlock(&s->lock);
	(*at)++;
	show_set(p, &addresses, false, fn, arg);
	show_set(p, &users, true, fn, arg);
	return true;
}

/* Waiting logins of the record go on being counted. */
static bool clear_record(struct record *r)
{
	bool had = r->score > 0;

	r->score = r->try_at = 0;
	memset(r->tries, 0, sizeof(r->tries));
	return had;
}

static int clear_key(struct penalty *p, bool is_user, uint64_t key)
{
	struct shard *s = shard_of(p, key);
	struct record *r;
	bool had = false;

	pthread_mutex_lock(&s->lock);
	r = find(set_of(is_user ? s->users : s->addresses, p, key), key);
	if (r) {
		settle(p, r, clock_mono_ms());
		had = clear_record(r);
	}
	pthread_mutex_unlock(&s->lock);
	return had ? 0 : ERR_NOT_FOUND;
}

int penalty_clear_address(struct penalty *p, const struct addr *client)
{
	uint8_t prefix[16];
	uint8_t len = prefix_of(client, prefix);

	return len ? clear_key(p, false, prefix_key(p, prefix, len)) : ERR_NOT_FOUND;
}

int penalty_clear_user(struct penalty *p, struct slice user)
{
	char room[512];

	return clear_key(p, true, name_key(p, without_detail(user, room, sizeof(room))));
}

size_t penalty_clear_all(struct penalty *p)
{
	uint64_t now = clock_mono_ms();
	size_t count = 0;

	for (size_t i = 0; i < SHARDS; i++) {
		struct shard *s = &p->shards[i];

		pthread_mutex_lock(&s->lock);
		for (size_t k = 0; k < p->sets * WAYS; k++) {
			struct record *a = &s->addresses[k / WAYS].at[k % WAYS],
				      *u = &s->users[k / WAYS].at[k % WAYS];

			settle(p, a, now);
			settle(p, u, now);
			count += clear_record(a);
			count += clear_record(u);
		}
		pthread_mutex_unlock(&s->lock);
	}
	return count;
}
