/*
 * Legs are dialled, kept for the next transaction, and found again: those of LMTP by whoever comes, best by whom they served last; those of a login
 * by the session alone that logged in.
 */
#include "proxy/smtp_leg_inner.h"

#include <stdlib.h>

#include "common/base/mem.h"

#define INPUT_MOST (16 * 1024)

static _Thread_local struct list pool, legs;

static struct list *own_pool(void)
{
	if (!pool.next)
		list_init(&pool);
	return &pool;
}

static struct list *own_legs(void)
{
	if (!legs.next)
		list_init(&legs);
	return &legs;
}

/* A session's name may be a balancer's, who may give it twice, and a client may greet anew: all that was told must be true. */
static bool is_of_user(const struct smtp_leg *l, const char *session, const struct addr *client,
	const struct smtp_leg_login *login)
{
	const struct leg_user *u = l->user;

	return u && strcmp(l->own_session, session) == 0 && slice_is_str(login->account, u->account) &&
	       strcmp(u->helo, login->helo) == 0 && strcmp(u->protocol, login->protocol) == 0 &&
	       u->ttl == login->ttl && addr_port(&u->client) == addr_port(client) &&
	       addr_is_equal_host(&u->client, client);
}

/* Submission: this session's own. */
static struct smtp_leg *find_logged_in(const struct backend *backend, uint16_t port,
	const struct identity_client *client, const struct smtp_leg_login *login)
{
	list_for_each (at, own_pool()) {
		struct smtp_leg *l = container_of(at, struct smtp_leg, link);

		if (l->backend == backend && l->port == port &&
			is_of_user(l, client->session, client->client, login))
			return l;
	}
	return NULL;
}

/* Was this client told by the connection's header? */
static bool has_header_of(const struct smtp_leg *l, const struct identity_client *client)
{
	struct buf header = {0};
	bool is_same;

	identity_write(&header, client);
	is_same = slice_is_equal(buf_view(&header), buf_view(&l->header));
	buf_deinit(&header);
	return is_same;
}

static struct smtp_leg *find_pooled(
	struct backend *backend, uint16_t port, const struct identity_client *client)
{
	struct smtp_leg *found = NULL;

	list_for_each (at, own_pool()) {
		struct smtp_leg *l = container_of(at, struct smtp_leg, link);

		if (l->backend != backend || l->port != port || l->user)
			continue;
		if (backend->identity == IDENTITY_PROXY_V2) {
			if (has_header_of(l, client))
				return l;
			continue;
		}
		if (strcmp(l->session, client->session) == 0)
			return l;
		if (!found)
			found = l;
	}
	return found;
}

static int dial_host(struct smtp_leg *l)
{
	int err = backend_dial(l->backend, l->protocol, l->port, &l->attempt, buf_view(&l->header), l->loop,
		smtp_leg_on_event, l, &l->conn);

	if (err)
		return err;
	l->phase = LEG_DIALS;
	l->words = (struct smtp_words){0};
	l->is_secure = false;
	buf_clear(&l->told);
	if (l->user)
		l->user->is_told = false;
	conn_set_input_limit(l->conn, INPUT_MOST);
	return 0;
}

static void dial_later(void *arg)
{
	struct smtp_leg *l = arg;

	timer_init(&l->timer, smtp_leg_on_timer, l);
	if (dial_host(l))
		smtp_leg_lose(l, "no descriptor, no free port, or no such address");
}

/* The next host, in a moment: the connection's callback may be on the stack. */
bool smtp_leg_redial(struct smtp_leg *l)
{
	if (!backend_next_host(l->backend, l->protocol, &l->attempt))
		return false;
	if (l->conn)
		conn_abort(&l->conn);
	l->phase = LEG_DIALS;
	timer_stop(&l->timer); /* of the host that is left */
	timer_init(&l->timer, dial_later, l);
	timer_set(&l->timer, l->loop, 0);
	return true;
}

static struct leg_user *new_user(const struct smtp_leg_login *login, const struct identity_client *client)
{
	struct leg_user *u = xcalloc(1, sizeof(*u));

	u->account = slice_copy_str(login->account);
	u->helo = xstrdup(login->helo);
	u->protocol = xstrdup(login->protocol);
	u->client = *client->client;
	u->ttl = login->ttl;
	secret_set(&u->password, login->password);
	return u;
}

static struct smtp_leg *dial_leg(struct loop *loop, struct backend *backend, uint16_t port, const char *host,
	const struct identity_client *client, const struct smtp_leg_login *login)
{
	struct smtp_leg *l;

	if (!backend_connects(backend)) {
		backend_count_turned_away(backend);
		return NULL;
	}
	l = xcalloc(1, sizeof(*l));
	list_init(&l->link);
	list_add_last(own_legs(), &l->all);
	l->loop = loop;
	l->backend = backend_ref(backend);
	l->port = port;
	l->protocol = login ? BACKEND_SUBMISSION : BACKEND_LMTP;
	l->is_smtp = login || backend->is_smtp;
	l->user = login ? new_user(login, client) : NULL;
	l->host = xstrdup(*host ? host : "localhost");
	snprintf(l->own_session, sizeof(l->own_session), "%s", client->session);
	if (backend->identity == IDENTITY_PROXY_V2)
		identity_write(&l->header, client);
	timer_init(&l->timer, smtp_leg_on_timer, l);
	if (!backend_next_host(backend, l->protocol, &l->attempt) || dial_host(l)) {
		smtp_leg_gone(l);
		return NULL;
	}
	return l;
}

static struct smtp_leg *take(struct smtp_leg *l, smtp_leg_fn *fn, void *owner)
{
	if (!l)
		return NULL;
	if (l->is_pooled) {
		list_remove(&l->link);
		timer_stop(&l->timer);
		l->is_pooled = false;
		l->is_from_pool = true;
		l->has_answered = false;
	}
	l->serial++;
	l->fn = fn;
	l->owner = owner;
	return l;
}

struct smtp_leg *smtp_leg_take(struct loop *loop, struct backend *backend, uint16_t port, const char *host,
	const struct identity_client *client, bool fresh, smtp_leg_fn *fn, void *owner)
{
	struct smtp_leg *l = fresh ? NULL : find_pooled(backend, port, client);

	return take(l ? l : dial_leg(loop, backend, port, host, client, NULL), fn, owner);
}

struct smtp_leg *smtp_leg_take_login(struct loop *loop, struct backend *backend, uint16_t port,
	const char *host, const struct identity_client *client, const struct smtp_leg_login *login,
	bool fresh, smtp_leg_fn *fn, void *owner)
{
	struct smtp_leg *l = fresh ? NULL : find_logged_in(backend, port, client, login);

	return take(l ? l : dial_leg(loop, backend, port, host, client, login), fn, owner);
}

bool smtp_leg_is_kept(const struct backend *backend, uint16_t port, const struct identity_client *client,
	const struct smtp_leg_login *login)
{
	return find_logged_in(backend, port, client, login) != NULL;
}

void smtp_leg_end_session(const char *session)
{
	list_for_each_safe (at, own_pool()) {
		struct smtp_leg *l = container_of(at, struct smtp_leg, link);

		if (l->user && strcmp(l->own_session, session) == 0)
			smtp_leg_quit(l);
	}
}

void smtp_leg_release(struct smtp_leg **leg)
{
	struct smtp_leg *l = *leg, *oldest = NULL;
	unsigned others = 0;

	*leg = NULL;
	if (!l || l->phase == LEG_GONE)
		return;
	l->owner = NULL;
	l->fn = NULL;
	l->serial++;
	list_for_each (at, own_pool()) {
		struct smtp_leg *other = container_of(at, struct smtp_leg, link);

		if (other->backend != l->backend)
			continue;
		others++;
		oldest = other;
	}
	if (l->phase != LEG_WORKS || l->backend->state == NULL) {
		smtp_leg_quit(l);
		return;
	}
	/* Those of submission serve their own sessions alone, and must not keep out what serves all. */
	if (others >= SMTP_LEG_POOL_MOST)
		smtp_leg_quit(oldest);
	l->is_pooled = true;
	buf_deinit(&l->chunk);
	list_add_first(own_pool(), &l->link);
	timer_set(&l->timer, l->loop, l->is_dirty ? SMTP_LEG_RSET_MS : SMTP_LEG_IDLE_MS);
}

void smtp_leg_end_pool(void)
{
	list_for_each_safe (at, own_pool())
		smtp_leg_quit(container_of(at, struct smtp_leg, link));
}

bool smtp_leg_make_room(const struct backend *backend)
{
	list_for_each (at, own_pool()) {
		struct smtp_leg *l = container_of(at, struct smtp_leg, link);

		if (l->backend->state == backend->state) {
			smtp_leg_quit(l);
			return true;
		}
	}
	return false;
}

static bool waits_for_end(const struct smtp_leg *l)
{
	return l->phase == LEG_WORKS && l->head < l->count && l->expected[l->head].kind == EXPECT_END;
}

static struct smtp_leg *find_leg_with(
	const struct backend *backend, unsigned host, enum backend_protocol protocol)
{
	list_for_each (at, own_legs()) {
		struct smtp_leg *l = container_of(at, struct smtp_leg, all);

		if (l->protocol == protocol &&
			backend_is_same_host(l->backend, l->attempt.host, backend, host) &&
			(!waits_for_end(l) || l->words.xmark))
			return l;
	}
	return NULL;
}

void smtp_leg_host_is_down(struct backend *backend, unsigned host, enum backend_protocol protocol)
{
	struct smtp_leg *l;

	/* Anew after each: losing one may cut others. */
	while ((l = find_leg_with(backend, host, protocol)) != NULL)
		smtp_leg_lose(l, "its host was found down");
}
