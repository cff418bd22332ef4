/*
 * Cyrus SASL is used for the mechanisms' dialogues alone. What PLAIN and LOGIN hand to checkpass is kept in the session, and the
 * answer is "right", which means "parsed". A connection object costs about 1 us, so every session has its own and nothing is
 * shared between clients (docs/decisions/sasl-context.md).
 *
 *	            +----------- message: answered at once -----------+
 *	            v                                                 |
 *	SASL_FRESH -> SASL_STEPPING -> SASL_WANTING (for what is stored) -> SASL_WORKING (a worker has the job) -> SASL_ENDED
 *
 * Identity: of PLAIN, LOGIN and EXTERNAL as the library gives it to the canonical-user callback; of a challenge the name that
 * sasl_message.c read and whose secret was fetched; of GSSAPI the principal.
 */
#include "common/auth/sasl.h"

#include <stdlib.h>
#include <string.h>

#include "common/auth/auth_name.h"
#include "common/auth/gssapi.h"
#include "common/auth/password.h"
#include "common/auth/sasl_message.h"
#include "common/auth/sasl_private.h"
#include "common/base/base64.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/random.h"
#include "common/proto/address.h"

#define AREA "auth"
#define SALT_ARENA_MOST (8 * 1024)

enum sasl_phase {
	SASL_FRESH,
	SASL_STEPPING,
	SASL_WANTING,
	SASL_WORKING,
	SASL_ENDED
};

/* What a worker has: it owns itself and, once the session has gone, the context. */
struct job {
	struct work work;
	struct sasl_session *session; /* NULL: gone */
	int rc;
	/* GSSAPI */
	struct gssapi *gssapi;
	bool has_token;
	struct buf token, reply, why;
	/* SCRAM */
	struct scram_keys keys;
	struct secret password;
};

#define SESSION_CALLBACKS 4
struct sasl_session {
	struct sasl_options options;
	sasl_conn_t *conn;
	sasl_callback_t callbacks[SESSION_CALLBACKS];
	const struct sasl_row *row;
	enum sasl_phase phase;
	bool was_started; /* the library has begun the dialogue */
	unsigned steps;
	bool has_password; /* checkpass was called */
	int error;         /* what a callback found; goes before what the library says */
	char *authcid, *authzid;
	sasl_channel_binding_t binding;
	char binding_data[SASL_BINDING_MOST];
	/* challenges */
	struct buf name, held; /* who he says he is; the message that waits for his secret */
	bool was_given, is_fake, is_unserved;
	struct secret clear, keys; /* what the library is to find; keys: RFC 5803 */
	/* workers */
	struct gssapi *gssapi;
	struct job *job;
	struct buf why;
	struct sasl_result result;
};

typedef int callback_fn(void);
#define CALLBACK(fn) ((callback_fn *)(void (*)(void))(fn))

/* ---- the library's callbacks ---- */

/* The password that the client sent; what it is worth is not said here. */
static int on_checkpass(sasl_conn_t *conn, void *context, const char *user, const char *pass,
	unsigned pass_len, struct propctx *properties)
{
	struct sasl_session *s = context;

	(void)conn;
	(void)user;
	(void)properties;
	if (pass_len > PASSWORD_MOST) {
		s->error = ERR_TOO_BIG;
	} else {
		secret_set(&s->result.password, slice_of(pass, pass_len));
		s->has_password = true;
	}
	return SASL_OK;
}

static void name_keep(char **name, const char *in, unsigned len)
{
	free(*name);
	*name = xmemdup0(in, len);
}

static int name_check(struct slice name)
{
	if (name.len > SASL_NAME_MOST)
		return ERR_TOO_BIG;
	return slice_is_utf8(name) && !slice_has_control(name) ? 0 : ERR_SYNTAX;
}

/*
 * Every identity passes here as it was sent, and is kept so. The library gets a fixed word in its place and
 * never an error: after an error here the LOGIN plug-in forgets to free the password, and the library would
 * cut blanks off names.
 */
static int on_canon_user(sasl_conn_t *conn, void *context, const char *in, unsigned len, unsigned flags,
	const char *realm, char *out, unsigned out_most, unsigned *out_len)
{
	struct sasl_session *s = context;
	int error;

	(void)conn;
	(void)realm;
	require(out_most > 1);
	memcpy(out, "x", 2);
	*out_len = 1;
	error = name_check(slice_of(in, len));
	if (error) {
		s->error = error;
	} else {
		if (flags & SASL_CU_AUTHID)
			name_keep(&s->authcid, in, len);
		if (flags & SASL_CU_AUTHZID)
			name_keep(&s->authzid, in, len);
	}
	return SASL_OK;
}

/* Whether one may act for another is decided by who called us. */
static int on_proxy_policy(sasl_conn_t *conn, void *context, const char *user, unsigned user_len,
	const char *id, unsigned id_len, const char *realm, unsigned realm_len, struct propctx *properties)
{
	(void)conn;
	(void)context;
	(void)user;
	(void)user_len;
	(void)id;
	(void)id_len;
	(void)realm;
	(void)realm_len;
	(void)properties;
	return SASL_OK;
}

static int error_from_sasl(int rc)
{
	switch (rc) {
	case SASL_OK:
		return 0;
	case SASL_CONTINUE:
		return ERR_MORE;
	case SASL_BADPROT:
	case SASL_BADPARAM:
		return ERR_SYNTAX;
	case SASL_BUFOVER:
		return ERR_TOO_BIG;
	case SASL_NOMECH:
		return ERR_UNSUPPORTED;
	case SASL_NOMEM:
	case SASL_FAIL:
	case SASL_TRYAGAIN:
	case SASL_UNAVAIL:
		return ERR_NOT_NOW;
	}
	return ERR_DENIED;
}

/* ---- begin and end ---- */

static bool is_allowed(const struct sasl_row *row, const char *const *allowed)
{
	for (; row && *allowed; allowed++) {
		if (slice_is_str_nocase(slice_str(*allowed), row->name))
			return true;
	}
	return false;
}

/* The connection has what the mechanism takes. */
static bool is_able(const struct sasl_options *o, unsigned traits)
{
	if (traits & SASL_BINDS_CHANNEL && !(o->binding && o->binding_data.len))
		return false;
	if (traits & SASL_SHOWS_CERTIFICATE && !o->external)
		return false;
	return o->binding_data.len <= SASL_BINDING_MOST;
}

static int library_open(struct sasl_session *s, const struct sasl_options *o)
{
	const sasl_security_properties_t properties = {.max_ssf = 0};
	const char *host = o->host && *o->host ? o->host : sasl_library_host();
	const char *realm = o->realm && *o->realm ? o->realm : NULL;

	s->callbacks[0] = (sasl_callback_t){SASL_CB_SERVER_USERDB_CHECKPASS, CALLBACK(on_checkpass), s};
	s->callbacks[1] = (sasl_callback_t){SASL_CB_CANON_USER, CALLBACK(on_canon_user), s};
	s->callbacks[2] = (sasl_callback_t){SASL_CB_PROXY_POLICY, CALLBACK(on_proxy_policy), s};
	s->callbacks[3] = (sasl_callback_t){SASL_CB_LIST_END, NULL, NULL};
	if (sasl_server_new(o->service, host, realm, NULL, NULL, s->callbacks, 0, &s->conn) != SASL_OK ||
		sasl_setprop(s->conn, SASL_SEC_PROPS, &properties) != SASL_OK)
		return ERR_NOT_NOW;
	if (o->binding) {
		memcpy(s->binding_data, o->binding_data.p, o->binding_data.len);
		s->binding = (sasl_channel_binding_t){.name = o->binding,
			.data = (const unsigned char *)s->binding_data,
			.len = o->binding_data.len};
		if (sasl_setprop(s->conn, SASL_CHANNEL_BINDING, &s->binding) != SASL_OK)
			return ERR_NOT_NOW;
	}
	if (s->row->traits & SASL_SHOWS_CERTIFICATE &&
		sasl_setprop(s->conn, SASL_AUTH_EXTERNAL, o->external) != SASL_OK)
		return ERR_NOT_NOW;
	return 0;
}

int sasl_session_new(const struct sasl_options *options, struct sasl_session **session_out)
{
	const struct sasl_row *row = sasl_library_row(options->mechanism);
	struct sasl_session *s;

	if (!is_allowed(row, options->allowed) || !is_able(options, row->traits))
		return ERR_UNSUPPORTED;
	s = xcalloc(1, sizeof(*s));
	s->options = *options;
	s->options.mechanism = s->options.binding_data = slice_of(NULL, 0); /* the call's */
	s->options.allowed = NULL;
	s->row = row;
	buf_init(&s->name, SASL_NAME_MOST);
	if (!row->base) {
		s->gssapi = gssapi_new(options->gssapi_service ? options->gssapi_service : options->service,
			options->gssapi_host && *options->gssapi_host ? options->gssapi_host
								      : sasl_library_host(),
			options->keytab);
	} else if (library_open(s, options)) {
		sasl_session_free(&s);
		return ERR_NOT_NOW;
	}
	*session_out = s;
	return 0;
}

static void wipe_buf(struct buf *b)
{
	if (b->data)
		secret_wipe(b->data, b->cap);
	buf_deinit(b);
}

static void job_free(struct job *j)
{
	wipe_buf(&j->token);
	buf_deinit(&j->reply);
	buf_deinit(&j->why);
	secret_wipe(&j->keys, sizeof(j->keys));
	secret_deinit(&j->password);
	free(j);
}

void sasl_session_free(struct sasl_session **session)
{
	struct sasl_session *s = *session;

	*session = NULL;
	if (!s)
		return;
	if (s->conn)
		sasl_dispose(&s->conn);
	if (s->job)
		s->job->session = NULL; /* the job frees the context when it comes back */
	else
		gssapi_free(&s->gssapi);
	secret_deinit(&s->result.password);
	secret_deinit(&s->clear);
	secret_deinit(&s->keys);
	wipe_buf(&s->held);
	buf_deinit(&s->name);
	buf_deinit(&s->why);
	free(s->authcid);
	free(s->authzid);
	free(s);
}

/* ---- what a dialogue left ---- */

static int finish_password(struct sasl_session *s)
{
	if (!s->has_password)
		return ERR_DENIED;
	return auth_name_check_login(s->result.authcid, secret_view(&s->result.password));
}

static int finish_ticket(struct sasl_session *s)
{
	struct slice principal = gssapi_principal(s->gssapi), authzid = gssapi_authzid(s->gssapi);
	struct buf user = {.limit = SASL_NAME_MOST};
	int error = gssapi_user(principal, s->options.realms, &user);

	if (error)
		buf_printf(&s->why, "%.*s is no principal of a realm that is listed", SLICE_ARG(principal));
	else if (user.failed)
		error = ERR_TOO_BIG;
	else
		name_keep(&s->authcid, buf_view(&user).p, (unsigned)buf_len(&user));
	buf_deinit(&user);
	if (!error)
		error = name_check(authzid);
	if (!error && authzid.len && !slice_is_equal(authzid, principal))
		name_keep(&s->authzid, authzid.p, (unsigned)authzid.len);
	return error;
}

/* Names within their rules, and a password that can be one. */
static int session_finish(struct sasl_session *s)
{
	int error = s->row->traits & SASL_SHOWS_TICKET ? finish_ticket(s) : 0;

	if (error)
		return error;
	if (!s->authcid || s->is_fake)
		return ERR_DENIED;
	if (s->authzid && strcmp(s->authzid, s->authcid))
		s->result.authzid = slice_str(s->authzid);
	s->result.authcid = s->was_given ? buf_view(&s->name) : slice_str(s->authcid);
	if (s->row->traits & SASL_HANDS_PASSWORD)
		return finish_password(s);
	s->result.shown = SASL_SHOWN_PROVEN;
	return s->result.authcid.len ? 0 : ERR_DENIED;
}

/* Turns what was found into our answer; the challenge goes out as base64. */
static int session_answer(struct sasl_session *s, int error, struct slice raw, struct buf *challenge_out)
{
	if (s->error && (!error || error == ERR_MORE))
		error = s->error;
	if (error == ERR_MORE) {
		if (++s->steps >= SASL_STEPS_MOST)
			error = ERR_SYNTAX;
		else if (raw.len)
			base64_encode(challenge_out, raw);
	} else if (!error) {
		error = session_finish(s);
	}
	/* Whatever is wrong once a secret is at stake is a wrong credential. */
	if (error && error != ERR_MORE && error != ERR_NOT_NOW && s->was_given)
		error = ERR_DENIED;
	s->phase = error == ERR_MORE ? SASL_STEPPING : SASL_ENDED;
	return error;
}

/* ---- the library ---- */

static int library_step(struct sasl_session *s, bool has_input, struct buf *raw, struct buf *challenge_out)
{
	const char *in = has_input ? buf_str_view(raw) : NULL;
	unsigned len = has_input ? (unsigned)buf_len(raw) : 0, out_len = 0;
	const char *out = NULL;
	int rc;

	sasl_library_set_secret(s->clear.data, s->keys.data);
	if (!s->was_started)
		rc = sasl_server_start(s->conn, s->row->name, in, len, &out, &out_len);
	else
		rc = sasl_server_step(s->conn, in, len, &out, &out_len);
	sasl_library_set_secret(NULL, NULL);
	s->was_started = true;
	return session_answer(s, error_from_sasl(rc), slice_of(out, out ? out_len : 0), challenge_out);
}

/* His secret has come: the message that waited for it. */
static int held_step(struct sasl_session *s, struct buf *challenge)
{
	int rc = library_step(s, true, &s->held, challenge);

	wipe_buf(&s->held);
	return rc;
}

/* ---- workers ---- */

static void job_run(void *arg)
{
	struct job *j = arg;

	if (j->gssapi)
		j->rc = gssapi_step(j->gssapi, j->has_token, buf_view(&j->token), &j->reply, &j->why);
	else
		scram_keys_derive(secret_view(&j->password), &j->keys);
}

static void keys_set(struct sasl_session *s, const struct scram_keys *keys)
{
	struct buf text = {0};

	(void)buf_reserve(&text, PASSWORD_STORED_MOST); /* so that it never moves */
	buf_printf(&text, "%s$", s->row->base);
	scram_keys_write(keys, &text);
	secret_set(&s->keys, buf_view(&text));
	wipe_buf(&text);
}

static int job_take(struct sasl_session *s, struct job *j, struct buf *challenge)
{
	if (j->gssapi) {
		buf_add_slice(&s->why, buf_view(&j->why));
		return session_answer(s, j->rc, buf_view(&j->reply), challenge);
	}
	if (!s->keys.len)
		keys_set(s, &j->keys);
	return held_step(s, challenge);
}

static void job_done(void *arg, int error)
{
	struct job *j = arg;
	struct sasl_session *s = j->session;
	struct buf challenge = {0};
	int rc;

	if (!s) {
		gssapi_free(&j->gssapi);
		job_free(j);
		return;
	}
	s->job = NULL;
	rc = error ? session_answer(s, ERR_NOT_NOW, slice_of(NULL, 0), &challenge)
		   : job_take(s, j, &challenge);
	job_free(j);
	s->options.fn(s->options.arg, rc, buf_view(&challenge));
	buf_deinit(&challenge);
}

static int job_start(struct sasl_session *s, struct job *j)
{
	j->work = (struct work){.run = job_run, .done = job_done, .job = j};
	j->session = s;
	if (!s->options.pool || work_submit(s->options.pool, s->options.loop, &j->work)) {
		job_free(j);
		s->phase = SASL_ENDED;
		return ERR_NOT_NOW;
	}
	s->job = j;
	s->phase = SASL_WORKING;
	return SASL_LATER;
}

static int ticket_step(struct sasl_session *s, bool has_input, struct buf *raw_take)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->gssapi = s->gssapi;
	j->has_token = has_input;
	j->token = *raw_take;
	*raw_take = (struct buf){0};
	return job_start(s, j);
}

/* ---- challenges ---- */

/* The client has named himself in this message: it waits until his secret is here. */
static int challenge_hold(struct sasl_session *s, struct buf *raw_take)
{
	const struct sasl_options *o = &s->options;
	struct slice raw = buf_view(raw_take), realm = slice_str(o->realm ? o->realm : "");
	struct sasl_message_scram scram = {0};
	bool binds = s->row->traits & SASL_BINDS_CHANNEL;
	int error;

	if (s->row->traits & SASL_WANTS_KEYS)
		error = sasl_message_scram(raw, &scram, &s->name);
	else if (slice_is_str(slice_str(s->row->base), "CRAM-MD5"))
		error = sasl_message_cram(raw, &s->name);
	else
		error = sasl_message_digest(
			raw, realm.len ? realm : slice_str(o->host && *o->host ? o->host : ""), &s->name);
	if (!error)
		error = name_check(buf_view(&s->name));
	if (!error && s->row->traits & SASL_WANTS_KEYS) {
		if (binds != (scram.flag == 'p') || (binds && !slice_is_str(scram.binding, o->binding)))
			error = ERR_SYNTAX;
		/* RFC 5802 section 6: he could bind, and somebody told him that we cannot. */
		if (scram.flag == 'y' && o->binding) {
			buf_add_str(&s->why, "the client was told that we cannot bind to TLS: downgrade");
			error = ERR_DENIED;
		}
	}
	s->phase = error ? SASL_ENDED : SASL_WANTING;
	if (!error) {
		s->held = *raw_take;
		*raw_take = (struct buf){0};
	}
	return error ? error : SASL_WANTS;
}

/* The first text that serves goes where the library will find it. */
static bool secret_pick(struct sasl_session *s, struct slice stored)
{
	struct scram_keys keys;
	struct slice clear;

	while (stored.len) {
		ptrdiff_t end = slice_find(stored, 0);
		struct slice text = slice_sub(stored, 0, end < 0 ? stored.len : (size_t)end);

		stored = slice_from(stored, text.len + (end >= 0));
		if (s->row->traits & SASL_WANTS_KEYS && password_has_scram(text, s->row->digest, &keys)) {
			secret_deinit(&s->clear);
			keys_set(s, &keys);
			secret_wipe(&keys, sizeof(keys));
			return true;
		}
		if (!s->clear.len && password_is_clear(text, &clear))
			secret_set(&s->clear, clear);
	}
	return s->clear.len > 0;
}

/* One that nobody can know. */
static void secret_fake(struct secret *out)
{
	char text[33];

	random_id(text, 32);
	secret_set(out, slice_of(text, 32));
	secret_wipe(text, sizeof(text));
}

/* The user's name in the one form in which maps look for it. */
static void salt_seed(const struct sasl_session *s, struct buf *seed)
{
	struct slice name = buf_view(&s->name), domain = slice_str(s->options.realm ? s->options.realm : "");
	struct address_name whole;
	struct arena a;

	arena_init(&a, SALT_ARENA_MOST);
	if (!auth_name_normalise(&a, name, domain, &name) && !address_normalise(&a, name, &whole))
		name = whole.full;
	buf_printf(seed, "%s %.*s", s->row->base, SLICE_ARG(name));
	arena_deinit(&a);
}

/*
 * Keys out of the password, on a worker. The salt is the user's own for as long as this process lives, for those who are
 * there and those who are not, however the name is written. Where the keys are stored already the work is done all the same,
 * so that the time that a challenge takes says nothing.
 */
static int keys_begin(struct sasl_session *s)
{
	struct job *j = xcalloc(1, sizeof(*j));
	struct buf seed = {0};
	uint8_t salt[DIGEST_MAX];

	salt_seed(s, &seed);
	digest_hmac(DIGEST_SHA256, sasl_library_key(), buf_view(&seed), salt);
	buf_deinit(&seed);
	j->keys = (struct scram_keys){
		.kind = s->row->digest, .rounds = SCRAM_KEYS_ROUNDS, .salt_len = SCRAM_KEYS_SALT_LEN};
	memcpy(j->keys.salt, salt, SCRAM_KEYS_SALT_LEN);
	if (s->clear.len)
		secret_set(&j->password, secret_view(&s->clear));
	else
		secret_fake(&j->password);
	secret_deinit(&s->clear); /* the library is given keys */
	return job_start(s, j);
}

int sasl_session_give(struct sasl_session *s, struct slice stored, bool is_known, struct buf *challenge_out)
{
	buf_clear(challenge_out);
	if (s->phase != SASL_WANTING)
		return ERR_SYNTAX;
	s->was_given = true;
	if (!is_known || !secret_pick(s, stored)) {
		s->is_fake = true;
		s->is_unserved = is_known;
		secret_fake(&s->clear);
	}
	if (s->row->traits & SASL_WANTS_KEYS)
		return keys_begin(s);
	return held_step(s, challenge_out);
}

/* ---- messages ---- */

static int message(struct sasl_session *s, bool has_input, struct buf *raw, struct buf *challenge_out)
{
	if (s->row->traits & SASL_SHOWS_TICKET)
		return ticket_step(s, has_input, raw);
	if (s->row->traits & (SASL_WANTS_CLEAR | SASL_WANTS_KEYS) && has_input && !s->was_given)
		return challenge_hold(s, raw);
	return library_step(s, has_input, raw, challenge_out);
}

static int session_feed(struct sasl_session *s, bool has_input, struct slice text, struct buf *challenge_out)
{
	size_t most = s->row->traits & SASL_SHOWS_TICKET ? SASL_TICKET_LINE_MOST : SASL_LINE_MOST;
	struct buf raw = {0};
	int rc;

	if (text.len > most || (text.len && base64_decode(&raw, text)) ||
		(!s->row->nul && buf_len(&raw) && memchr(buf_view(&raw).p, 0, buf_len(&raw)))) {
		wipe_buf(&raw);
		s->phase = SASL_ENDED;
		return text.len > most ? ERR_TOO_BIG : ERR_SYNTAX;
	}
	rc = message(s, has_input, &raw, challenge_out);
	wipe_buf(&raw);
	return rc;
}

int sasl_session_start(struct sasl_session *s, struct slice initial, struct buf *challenge_out)
{
	buf_clear(challenge_out);
	if (s->phase != SASL_FRESH)
		return ERR_SYNTAX;
	if (initial.p && s->row->server_first) {
		s->phase = SASL_ENDED;
		return ERR_SYNTAX;
	}
	if (slice_is_str(initial, "="))
		return session_feed(s, true, slice_of("", 0), challenge_out);
	return session_feed(s, initial.p != NULL, initial, challenge_out);
}

int sasl_session_step(struct sasl_session *s, struct slice line, struct buf *challenge_out)
{
	buf_clear(challenge_out);
	if (s->phase != SASL_STEPPING)
		return ERR_SYNTAX;
	if (slice_is_str(line, "*")) {
		s->phase = SASL_ENDED;
		return ERR_CANCELLED;
	}
	return session_feed(s, true, line, challenge_out);
}

struct slice sasl_session_name(const struct sasl_session *s)
{
	if (buf_len(&s->name))
		return buf_view(&s->name);
	if (s->row->traits & SASL_SHOWS_TICKET && s->gssapi && !s->job)
		return gssapi_principal(s->gssapi);
	return slice_str(s->authcid ? s->authcid : "");
}

bool sasl_session_is_unserved(const struct sasl_session *s)
{
	return s->is_unserved;
}

const char *sasl_session_why(const struct sasl_session *s)
{
	return buf_len(&s->why) ? buf_str_view((struct buf *)(uintptr_t)&s->why) : "";
}

struct sasl_result *sasl_session_result(struct sasl_session *s)
{
	require(s->phase == SASL_ENDED && s->result.authcid.len);
	return &s->result;
}
