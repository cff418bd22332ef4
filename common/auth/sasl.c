/*
 * Cyrus SASL is used for the mechanisms' dialogues alone. It reads no file (SASL_CB_VERIFYFILE refuses its
 * configuration), loads only the plug-ins of our rows, asks no directory (its one auxprop plug-in is ours and knows nothing),
 * and resolves no name (the host's name is given). What PLAIN and LOGIN hand to checkpass is kept in the session, and the
 * answer is "right", which means "parsed".
 *
 * A connection object costs about 1 us, so every session has its own and nothing is shared between clients
 * (docs/decisions/sasl-context.md).
 *
 *	SASL_FRESH -> SASL_STEPPING -> SASL_ENDED (0 or an error)
 */
#include "common/auth/sasl.h"

#include <pthread.h>
#include <sasl/sasl.h>
#include <sasl/saslplug.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auth/auth_name.h"
#include "common/auth/password.h"
#include "common/base/base64.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define AREA "auth"
#define PLUGIN_NAME "mailtier"

struct mechanism {
	const char *name;
	const char *plugin; /* how the plug-in's file name begins */
	bool cleartext;
	bool nul; /* a client's message may hold a NUL; elsewhere the library would end a name there */
};

static const struct mechanism mechanisms[] = {
	{"PLAIN", "libplain.", true, true},
	{"LOGIN", "liblogin.", true, false},
};

enum sasl_phase {
	SASL_FRESH,
	SASL_STEPPING,
	SASL_ENDED
};

#define SESSION_CALLBACKS 4
struct sasl_session {
	sasl_conn_t *conn;
	sasl_callback_t callbacks[SESSION_CALLBACKS];
	const struct mechanism *mechanism;
	enum sasl_phase phase;
	unsigned steps;
	bool has_password; /* checkpass was called */
	int error;         /* what a callback found; goes before what the library says */
	char *authcid, *authzid;
	struct sasl_result result;
};

/* The library's own view of the process: set once by sasl_init(), constant afterwards. */
static char host_name[256];
static char mechanism_list[64];
static sasl_auxprop_plug_t plugin;

typedef int callback_fn(void);
#define CALLBACK(fn) ((callback_fn *)(void (*)(void))(fn))

/* ---- the library's global callbacks ---- */

/* No configuration file, and of the plug-ins those of our rows. */
static int on_verify_file(void *context, const char *file, sasl_verify_type_t type)
{
	const char *base = strrchr(file, '/');

	(void)context;
	if (type != SASL_VRFY_PLUGIN)
		return SASL_CONTINUE;
	base = base ? base + 1 : file;
	for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++) {
		if (slice_has_prefix(slice_str(base), mechanisms[i].plugin))
			return SASL_OK;
	}
	return SASL_CONTINUE;
}

static int on_getopt(
	void *context, const char *plugin_name, const char *option, const char **result, unsigned *len)
{
	const struct {
		const char *option, *value;
	} options[] = {
		{"mech_list", mechanism_list},
		{"auxprop_plugin", PLUGIN_NAME},
		{"canon_user_plugin", "INTERNAL"},
		{"log_level", "0"},
		{"auto_transition", "no"},
	};

	(void)context;
	(void)plugin_name;
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		if (strcmp(option, options[i].option))
			continue;
		*result = options[i].value;
		if (len)
			*len = (unsigned)strlen(options[i].value);
		return SASL_OK;
	}
	return SASL_FAIL;
}

static int on_log(void *context, int level, const char *message)
{
	(void)context;
	log_debug(AREA, "sasl level=%d: %s", level, message ? message : "");
	return SASL_OK;
}

static int plugin_lookup(
	void *context, sasl_server_params_t *params, unsigned flags, const char *user, unsigned len)
{
	(void)context;
	(void)params;
	(void)flags;
	(void)user;
	(void)len;
	return SASL_OK;
}

static int plugin_init(
	const sasl_utils_t *utils, int most, int *version, sasl_auxprop_plug_t **plug, const char *name)
{
	static char plugin_name[] = PLUGIN_NAME;

	(void)utils;
	(void)most;
	(void)name;
	plugin.name = plugin_name;
	plugin.auxprop_lookup = plugin_lookup;
	*version = SASL_AUXPROP_PLUG_VERSION;
	*plug = &plugin;
	return SASL_OK;
}

static void *mutex_new(void)
{
	pthread_mutex_t *m = xmalloc(sizeof(*m));

	pthread_mutex_init(m, NULL);
	return m;
}

static int mutex_lock(void *m)
{
	return pthread_mutex_lock(m) ? SASL_FAIL : SASL_OK;
}

static int mutex_unlock(void *m)
{
	return pthread_mutex_unlock(m) ? SASL_FAIL : SASL_OK;
}

static void mutex_free(void *m)
{
	pthread_mutex_destroy(m);
	free(m);
}

static bool is_installed(const char *name)
{
	const char **list = sasl_global_listmech();

	for (; list && *list; list++) {
		if (!strcmp(*list, name))
			return true;
	}
	return false;
}

int sasl_init(const char *program, struct buf *why)
{
	static const sasl_callback_t callbacks[] = {
		{SASL_CB_VERIFYFILE, CALLBACK(on_verify_file), NULL},
		{SASL_CB_GETOPT, CALLBACK(on_getopt), NULL},
		{SASL_CB_LOG, CALLBACK(on_log), NULL},
		{SASL_CB_LIST_END, NULL, NULL},
	};
	struct buf names = {0};
	int rc;

	for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++)
		buf_printf(&names, "%s%s", i ? " " : "", mechanisms[i].name);
	require(buf_len(&names) < sizeof(mechanism_list));
	memcpy(mechanism_list, buf_str_view(&names), buf_len(&names) + 1);
	buf_deinit(&names);
	if (gethostname(host_name, sizeof(host_name) - 1) || !host_name[0])
		memcpy(host_name, "localhost", sizeof("localhost"));
	sasl_set_mutex(mutex_new, mutex_lock, mutex_unlock, mutex_free);
	rc = sasl_server_init(callbacks, program);
	if (rc == SASL_OK)
		rc = sasl_auxprop_add_plugin(PLUGIN_NAME, plugin_init);
	if (rc != SASL_OK) {
		buf_printf(why, "Cyrus SASL does not start: %s", sasl_errstring(rc, NULL, NULL));
		return ERR_CONFIG;
	}
	for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++) {
		if (is_installed(mechanisms[i].name))
			continue;
		buf_printf(why, "Cyrus SASL has no plug-in for %s (Debian: libsasl2-modules)",
			mechanisms[i].name);
		sasl_deinit();
		return ERR_CONFIG;
	}
	return 0;
}

void sasl_deinit(void)
{
	sasl_server_done();
}

/* ---- mechanisms ---- */

static const struct mechanism *mechanism_named(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++) {
		if (slice_is_str_nocase(name, mechanisms[i].name))
			return &mechanisms[i];
	}
	return NULL;
}

const char *sasl_mechanism(struct slice name)
{
	const struct mechanism *m = mechanism_named(name);

	return m ? m->name : NULL;
}

bool sasl_is_cleartext(const char *mechanism)
{
	const struct mechanism *m = mechanism_named(slice_str(mechanism));

	return m && m->cleartext;
}

static bool is_allowed(const struct mechanism *m, const char *const *allowed)
{
	for (; m && *allowed; allowed++) {
		if (slice_is_str_nocase(slice_str(*allowed), m->name))
			return true;
	}
	return false;
}

/* ---- a session ---- */

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

/*
 * Every identity passes here as it was sent, and is kept so. The library gets a fixed word in its place and
 * never an error: after an error here the LOGIN plug-in forgets to free the password, and the library would
 * cut blanks off names.
 */
static int on_canon_user(sasl_conn_t *conn, void *context, const char *in, unsigned len, unsigned flags,
	const char *realm, char *out, unsigned out_most, unsigned *out_len)
{
	struct sasl_session *s = context;
	struct slice name = slice_of(in, len);

	(void)conn;
	(void)realm;
	require(out_most > 1);
	memcpy(out, "x", 2);
	*out_len = 1;
	if (len > SASL_NAME_MOST) {
		s->error = ERR_TOO_BIG;
	} else if (!slice_is_utf8(name) || slice_has_control(name)) {
		s->error = ERR_SYNTAX;
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

int sasl_session_new(const char *service, struct slice mechanism, const char *const *allowed,
	struct sasl_session **session_out)
{
	const struct mechanism *m = mechanism.len <= SASL_MECHANISM_MOST ? mechanism_named(mechanism) : NULL;
	const sasl_security_properties_t properties = {.max_ssf = 0};
	struct sasl_session *s;

	if (!is_allowed(m, allowed))
		return ERR_UNSUPPORTED;
	s = xcalloc(1, sizeof(*s));
	s->mechanism = m;
	s->callbacks[0] = (sasl_callback_t){SASL_CB_SERVER_USERDB_CHECKPASS, CALLBACK(on_checkpass), s};
	s->callbacks[1] = (sasl_callback_t){SASL_CB_CANON_USER, CALLBACK(on_canon_user), s};
	s->callbacks[2] = (sasl_callback_t){SASL_CB_PROXY_POLICY, CALLBACK(on_proxy_policy), s};
	s->callbacks[3] = (sasl_callback_t){SASL_CB_LIST_END, NULL, NULL};
	if (sasl_server_new(service, host_name, NULL, NULL, NULL, s->callbacks, 0, &s->conn) != SASL_OK ||
		sasl_setprop(s->conn, SASL_SEC_PROPS, &properties) != SASL_OK) {
		sasl_session_free(&s);
		return ERR_NOT_NOW;
	}
	*session_out = s;
	return 0;
}

void sasl_session_free(struct sasl_session **session)
{
	struct sasl_session *s = *session;

	*session = NULL;
	if (!s)
		return;
	sasl_dispose(&s->conn);
	secret_deinit(&s->result.password);
	free(s->authcid);
	free(s->authzid);
	free(s);
}

/* What the dialogue left: names within their rules, a password that can be one. */
static int session_finish(struct sasl_session *s)
{
	if (!s->has_password || !s->authcid)
		return ERR_DENIED;
	s->result.authcid = slice_str(s->authcid);
	if (s->authzid && strcmp(s->authzid, s->authcid))
		s->result.authzid = slice_str(s->authzid);
	return auth_name_check_login(s->result.authcid, secret_view(&s->result.password));
}

/* Turns what the library said into our answer; the challenge goes out as base64. */
static int session_answer(
	struct sasl_session *s, int rc, const char *out, unsigned out_len, struct buf *challenge_out)
{
	int error = s->error ? s->error : error_from_sasl(rc);

	if (error == ERR_MORE) {
		if (++s->steps >= SASL_STEPS_MOST)
			error = ERR_SYNTAX;
		else if (out)
			base64_encode(challenge_out, slice_of(out, out_len));
	} else if (!error) {
		error = session_finish(s);
	}
	s->phase = error == ERR_MORE ? SASL_STEPPING : SASL_ENDED;
	return error;
}

static void feed_wipe(struct buf *raw)
{
	if (raw->data)
		secret_wipe(raw->data, raw->cap);
	buf_deinit(raw);
}

static int session_feed(struct sasl_session *s, bool has_input, struct slice text, struct buf *challenge_out)
{
	struct buf raw = {0};
	const char *out = NULL;
	unsigned out_len = 0;
	const char *in;
	int rc;

	if (text.len > SASL_LINE_MOST || (text.len && base64_decode(&raw, text)) ||
		(!s->mechanism->nul && buf_len(&raw) && memchr(buf_view(&raw).p, 0, buf_len(&raw)))) {
		feed_wipe(&raw);
		s->phase = SASL_ENDED;
		return text.len > SASL_LINE_MOST ? ERR_TOO_BIG : ERR_SYNTAX;
	}
	in = has_input ? buf_str_view(&raw) : NULL;
	if (s->phase == SASL_FRESH)
		rc = sasl_server_start(
			s->conn, s->mechanism->name, in, (unsigned)buf_len(&raw), &out, &out_len);
	else
		rc = sasl_server_step(s->conn, in, (unsigned)buf_len(&raw), &out, &out_len);
	feed_wipe(&raw);
	return session_answer(s, rc, out, out_len, challenge_out);
}

int sasl_session_start(struct sasl_session *s, struct slice initial, struct buf *challenge_out)
{
	buf_clear(challenge_out);
	if (s->phase != SASL_FRESH)
		return ERR_SYNTAX;
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

struct sasl_result *sasl_session_result(struct sasl_session *s)
{
	require(s->phase == SASL_ENDED && s->has_password);
	return &s->result;
}
