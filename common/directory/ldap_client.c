/*
 * The socket is ours: resolved and connected here, without waiting beyond the deadline, and given to libldap ready. So
 * libldap never connects, never resolves, never chases; it writes and reads on a descriptor that does not block.
 */
#include "common/directory/ldap_client.h"

#include <errno.h>
#include <fcntl.h>
#include <lber.h>
#include <ldap.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openldap.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/directory/directory_gssapi.h"

#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"

struct ldap_client {
	LDAP *ld;
	int fd;
	char reason[200];
};

/* Once: libldap reads neither ldap.conf nor the environment, and sets itself up before threads race for it. */
static void library_init(void)
{
	int version = LDAP_VERSION3;

	setenv("LDAPNOINIT", "1", 1);
	ldap_set_option(NULL, LDAP_OPT_PROTOCOL_VERSION, &version);
}

static void library_begin(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, library_init);
}

/* What the server said, without control characters. */
static void reason_set(char *reason, size_t room, const char *what, int code, const char *said)
{
	snprintf(reason, room, "%s: %s%s%s", what, ldap_err2string(code), said && *said ? ": " : "",
		said ? said : "");
	for (char *p = reason; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	}
}

/* ---- what the configuration says ---- */

int ldap_client_check_uri(const char *uri, bool *tls_out, const char **reason_out)
{
	LDAPURLDesc *url = NULL;
	bool plain, secure, more;

	library_begin();
	*reason_out = "this is no URI such as ldap://host:389 or ldaps://host";
	if (ldap_url_parse(uri, &url))
		return ERR_SYNTAX;
	plain = url->lud_scheme && !strcmp(url->lud_scheme, "ldap");
	secure = url->lud_scheme && !strcmp(url->lud_scheme, "ldaps");
	more = (url->lud_dn && *url->lud_dn) || url->lud_attrs || url->lud_exts || !url->lud_host ||
	       !*url->lud_host;
	ldap_free_urldesc(url);
	if (more || !(plain || secure))
		return ERR_SYNTAX;
	*tls_out = secure;
	return 0;
}

static int port_of(const LDAPURLDesc *url)
{
	return url->lud_port ? url->lud_port : !strcmp(url->lud_scheme, "ldaps") ? LDAPS_PORT : LDAP_PORT;
}

static bool is_same_server(const LDAPURLDesc *a, const LDAPURLDesc *b)
{
	return a->lud_host && b->lud_host && !strcasecmp(a->lud_host, b->lud_host) &&
	       !strcmp(a->lud_scheme, b->lud_scheme) && port_of(a) == port_of(b);
}

int ldap_client_referral(const char *text, const char *const *servers, char **base_out)
{
	LDAPURLDesc *url = NULL, *server = NULL;
	int found = -1;

	*base_out = NULL;
	library_begin();
	if (ldap_url_parse(text, &url))
		return -1;
	for (int i = 0; servers[i] && found < 0; i++) {
		if (!ldap_url_parse(servers[i], &server) && is_same_server(url, server))
			found = i;
		ldap_free_urldesc(server);
		server = NULL;
	}
	if (found >= 0 && url->lud_dn && *url->lud_dn)
		*base_out = xstrdup(url->lud_dn);
	ldap_free_urldesc(url);
	return found;
}

static const struct refusal {
	unsigned code;
	const char *words;
} refusals[] = {
	{0x525, "there is no such user"},
	{0x52e, "wrong name or password"},
	{0x530, "not allowed to log on at this time"},
	{0x531, "not allowed to log on from here"},
	{0x532, "the password has expired"},
	{0x533, "the account is disabled"},
	{0x568, "too many groups in the ticket"},
	{0x701, "the account has expired"},
	{0x773, "the password must be changed first"},
	{0x775, "the account is locked"},
};

const char *ldap_client_refusal(const char *diagnostic, bool *is_password_out)
{
	const char *at = strstr(diagnostic, ", data ");
	unsigned long code = at ? strtoul(at + 7, NULL, 16) : 0;

	for (size_t i = 0; at && i < ARRAY_LEN(refusals); i++) {
		if (refusals[i].code == code) {
			*is_password_out = code == 0x525 || code == 0x52e;
			return refusals[i].words;
		}
	}
	return NULL;
}

bool ldap_client_is_dn(const char *dn)
{
	LDAPDN parsed = NULL;
	int rc;

	library_begin();
	rc = ldap_str2dn(dn, &parsed, LDAP_DN_FORMAT_LDAPV3);
	if (parsed)
		ldap_dnfree(parsed);
	return rc == LDAP_SUCCESS;
}

/* ---- connecting, on a worker ---- */

void ldap_client_stop_init(struct ldap_client_stop *stop)
{
	pthread_mutex_init(&stop->lock, NULL);
	stop->fd = -1;
	stop->is_stopped = false;
}

void ldap_client_stop_deinit(struct ldap_client_stop *stop)
{
	pthread_mutex_destroy(&stop->lock);
}

void ldap_client_stop(struct ldap_client_stop *stop)
{
	pthread_mutex_lock(&stop->lock);
	stop->is_stopped = true;
	if (stop->fd >= 0)
		(void)shutdown(stop->fd, SHUT_RDWR);
	pthread_mutex_unlock(&stop->lock);
}

/* The socket that is waited on now; -1 before it is closed. ECANCELED, or 0. */
static int stop_watch(struct ldap_client_stop *stop, int fd)
{
	bool is_stopped;

	pthread_mutex_lock(&stop->lock);
	is_stopped = stop->is_stopped;
	stop->fd = fd;
	pthread_mutex_unlock(&stop->lock);
	return is_stopped ? ECANCELED : 0;
}

static int wait_for(int fd, short events, uint64_t until_ms)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = clock_mono_ms();
		int rc = now < until_ms ? poll(&p, 1, (int)(until_ms - now)) : 0;

		if (rc > 0)
			return 0;
		if (rc == 0)
			return ETIMEDOUT;
		if (errno != EINTR)
			return errno;
	}
}

/* 0 or errno. */
static int connect_one(
	const struct addrinfo *ai, uint64_t until_ms, struct ldap_client_stop *stop, int *fd_out)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = 0, on = 1;
	socklen_t len = sizeof(error);

	if (fd < 0)
		return errno;
	error = stop_watch(stop, fd);
	if (!error && connect(fd, ai->ai_addr, ai->ai_addrlen) && errno != EINPROGRESS)
		error = errno;
	if (!error)
		error = wait_for(fd, POLLOUT, until_ms);
	if (!error && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (error) {
		(void)stop_watch(stop, -1);
		close(fd);
		return error;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	*fd_out = fd;
	return 0;
}

static int connect_any(const char *host, int port, uint64_t timeout_ms, struct ldap_client_stop *stop,
	struct buf *why, int *fd_out)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
	uint64_t until = clock_mono_ms() + timeout_ms;
	struct addrinfo *list = NULL;
	char service[8];
	int error = ENOENT, rc;

	snprintf(service, sizeof(service), "%d", port);
	rc = getaddrinfo(host, service, &hints, &list);
	if (rc) {
		buf_printf(why, "%s: %s", host, gai_strerror(rc));
		return ERR_NOT_NOW;
	}
	for (const struct addrinfo *ai = list; ai && error; ai = ai->ai_next)
		error = connect_one(ai, until, stop, fd_out);
	freeaddrinfo(list);
	if (error)
		buf_printf(why, "connect to %s port %d: %s", host, port, strerror(error));
	return error ? ERR_NOT_NOW : 0;
}

static int set_text(LDAP *ld, int option, const char *value)
{
	return value && *value ? ldap_set_option(ld, option, value) : LDAP_OPT_SUCCESS;
}

static int set_tls(LDAP *ld, const struct ldap_client_options *o, struct buf *why)
{
	int require = o->verify ? LDAP_OPT_X_TLS_HARD : LDAP_OPT_X_TLS_NEVER;
	int least = LDAP_OPT_X_TLS_PROTOCOL_TLS1_2, is_server = 0;
	bool bad = set_text(ld, LDAP_OPT_X_TLS_CACERTFILE, o->ca && *o->ca ? o->ca : SYSTEM_CA) ||
		   ldap_set_option(ld, LDAP_OPT_X_TLS_REQUIRE_CERT, &require) ||
		   set_text(ld, LDAP_OPT_X_TLS_CERTFILE, o->certificate) ||
		   set_text(ld, LDAP_OPT_X_TLS_KEYFILE, o->key) ||
		   ldap_set_option(ld, LDAP_OPT_X_TLS_PROTOCOL_MIN, &least);

	if (bad || ldap_set_option(ld, LDAP_OPT_X_TLS_NEWCTX, &is_server)) {
		buf_add_str(why, "TLS cannot be set up (CA, certificate or key file)");
		return ERR_NOT_NOW;
	}
	return 0;
}

static int set_options(LDAP *ld, uint64_t timeout_ms, struct buf *why)
{
	struct timeval limit = {(time_t)(timeout_ms / 1000), (suseconds_t)(timeout_ms % 1000 * 1000)};
	int version = LDAP_VERSION3, deref = LDAP_DEREF_NEVER;
	ber_len_t most = LDAP_CLIENT_ANSWER_MOST;
	Sockbuf *sb = NULL;

	if (ldap_set_option(ld, LDAP_OPT_PROTOCOL_VERSION, &version) ||
		ldap_set_option(ld, LDAP_OPT_REFERRALS, LDAP_OPT_OFF) ||
		ldap_set_option(ld, LDAP_OPT_DEREF, &deref) ||
		ldap_set_option(ld, LDAP_OPT_NETWORK_TIMEOUT, &limit) ||
		ldap_set_option(ld, LDAP_OPT_TIMEOUT, &limit) ||
		ldap_set_option(ld, LDAP_OPT_CONNECT_ASYNC, LDAP_OPT_ON) ||
		ldap_get_option(ld, LDAP_OPT_SOCKBUF, &sb) || !sb ||
		ber_sockbuf_ctrl(sb, LBER_SB_OPT_SET_MAX_INCOMING, &most) < 0) {
		buf_add_str(why, "libldap refuses an option");
		return ERR_NOT_NOW;
	}
	return 0;
}

/* Waits for the one answer to id: its message, or why says what came instead. */
static int wait_message(
	LDAP *ld, int id, const char *what, uint64_t timeout_ms, struct buf *why, LDAPMessage **message_out)
{
	struct timeval limit = {(time_t)(timeout_ms / 1000), (suseconds_t)(timeout_ms % 1000 * 1000)};
	int rc = ldap_result(ld, id, LDAP_MSG_ALL, &limit, message_out);

	if (rc > 0)
		return 0;
	buf_printf(why, "%s: %s", what, ldap_err2string(rc ? LDAP_SERVER_DOWN : LDAP_TIMEOUT));
	return ERR_NOT_NOW;
}

/* Its result code. */
static int result_of(LDAP *ld, LDAPMessage *message, const char *what, struct buf *why)
{
	char reason[200], *said = NULL;
	int code;

	if (ldap_parse_result(ld, message, &code, NULL, &said, NULL, NULL, 0))
		code = LDAP_DECODING_ERROR;
	if (code && code != LDAP_SASL_BIND_IN_PROGRESS) {
		reason_set(reason, sizeof(reason), what, code, said);
		buf_add_str(why, reason);
	}
	ldap_memfree(said);
	return code;
}

/* Waits for the one answer to id; its result code is 0, or why says it, and ERR_DENIED that it is about a password. */
static int wait_answer(LDAP *ld, int id, const char *what, uint64_t timeout_ms, struct buf *why)
{
	LDAPMessage *message = NULL;
	int error = wait_message(ld, id, what, timeout_ms, why, &message), code = 0;

	if (!error)
		code = result_of(ld, message, what, why);
	if (code)
		error = code == LDAP_INVALID_CREDENTIALS ? ERR_DENIED : ERR_NOT_NOW;
	ldap_msgfree(message);
	return error;
}

/* libldap on GnuTLS knows no minimum (and its cipher option leaks), so the version is looked at: "TLS1.3", "TLSv1.2". */
static bool is_modern(LDAP *ld)
{
	char *version = NULL;
	size_t len;
	bool is;

	ldap_get_option(ld, LDAP_OPT_X_TLS_VERSION, &version);
	len = version ? strlen(version) : 0;
	is = len > 3 && (!strcmp(version + len - 3, "1.2") || !strcmp(version + len - 3, "1.3"));
	ldap_memfree(version);
	return is;
}

static int start_tls(LDAP *ld, bool by_command, uint64_t timeout_ms, struct buf *why)
{
	char reason[200], *said = NULL;
	int id, rc = LDAP_SUCCESS;

	if (by_command) {
		rc = ldap_start_tls(ld, NULL, NULL, &id);
		if (!rc && wait_answer(ld, id, "StartTLS", timeout_ms, why))
			return ERR_NOT_NOW;
	}
	if (!rc)
		rc = ldap_install_tls(ld);
	if (!rc && !is_modern(ld)) {
		buf_add_str(why, "TLS: the server speaks neither 1.3 nor 1.2");
		return ERR_NOT_NOW;
	}
	if (!rc)
		return 0;
	ldap_get_option(ld, LDAP_OPT_DIAGNOSTIC_MESSAGE, &said);
	if (said && !strcmp(said, "(unknown error code)")) /* GnuTLS, where no certificate would do */
		snprintf(reason, sizeof(reason),
			"TLS: handshake failed, or the certificate is not trusted for this host");
	else
		reason_set(reason, sizeof(reason), "TLS", rc, said);
	ldap_memfree(said);
	buf_add_str(why, reason);
	return ERR_NOT_NOW;
}

static int bind_service(LDAP *ld, const struct ldap_client_options *o, uint64_t timeout_ms, struct buf *why)
{
	bool external = o->bind == LDAP_CLIENT_EXTERNAL;
	char *password = xmemdup0(o->password.p ? o->password.p : "", o->password.len);
	struct berval cred = {.bv_len = external ? 0 : o->password.len, .bv_val = password};
	int id, rc;

	if (o->bind == LDAP_CLIENT_ANONYMOUS)
		rc = ldap_sasl_bind(
			ld, "", LDAP_SASL_SIMPLE, &(struct berval){0, (char[]){0}}, NULL, NULL, &id);
	else
		rc = ldap_sasl_bind(ld, external ? NULL : o->bind_dn,
			external ? "EXTERNAL" : LDAP_SASL_SIMPLE, &cred, NULL, NULL, &id);
	explicit_bzero(password, o->password.len);
	free(password);
	if (rc) {
		buf_printf(why, "bind: %s", ldap_err2string(rc));
		return ERR_NOT_NOW;
	}
	return wait_answer(ld, id, "bind", timeout_ms, why);
}

/* One exchange of a SASL bind (RFC 4513 section 5.2.1): 0: it is over; 1: the server's token is in token; or an error. */
static int sasl_exchange(
	LDAP *ld, const struct buf *ours, uint64_t timeout_ms, struct buf *token, struct buf *why)
{
	struct slice out = buf_view(ours);
	struct berval cred = {.bv_len = out.len, .bv_val = (char *)(uintptr_t)(out.p ? out.p : "")},
		      *theirs = NULL;
	LDAPMessage *message = NULL;
	int id, code, rc = ldap_sasl_bind(ld, NULL, "GSSAPI", &cred, NULL, NULL, &id);

	if (rc) {
		buf_printf(why, "bind: %s", ldap_err2string(rc));
		return ERR_NOT_NOW;
	}
	if (wait_message(ld, id, "bind", timeout_ms, why, &message))
		return ERR_NOT_NOW;
	code = result_of(ld, message, "bind", why);
	buf_clear(token);
	if (!code || code == LDAP_SASL_BIND_IN_PROGRESS)
		ldap_parse_sasl_bind_result(ld, message, &theirs, 0);
	if (theirs)
		buf_add(token, theirs->bv_val, theirs->bv_len);
	ber_bvfree(theirs);
	ldap_msgfree(message);
	return !code ? 0 : code == LDAP_SASL_BIND_IN_PROGRESS ? 1 : ERR_NOT_NOW;
}

#define SASL_STEPS_MOST 10

static int bind_gssapi(
	LDAP *ld, const struct ldap_client_options *o, const char *host, uint64_t timeout_ms, struct buf *why)
{
	struct directory_gssapi *g = NULL;
	struct buf ours, token;
	int error = directory_gssapi_new(o->keytab, o->principal, host, why, &g), rc = 1;

	buf_init(&ours, LDAP_CLIENT_ANSWER_MOST);
	buf_init(&token, LDAP_CLIENT_ANSWER_MOST);
	for (unsigned i = 0; !error && rc == 1; i++) {
		buf_clear(&ours);
		error = i == SASL_STEPS_MOST ? ERR_NOT_NOW
					     : directory_gssapi_step(g, buf_view(&token), &ours, why);
		if (!error)
			rc = sasl_exchange(ld, &ours, timeout_ms, &token, why);
		if (rc < 0)
			error = rc;
	}
	if (!error && !directory_gssapi_is_done(g)) {
		buf_add_str(why, "bind: the server says yes before it has proved itself");
		error = ERR_NOT_NOW;
	}
	directory_gssapi_free(&g);
	buf_deinit(&ours);
	buf_deinit(&token);
	return error;
}

static int client_open(int fd, const struct ldap_client_options *o, const char *host, bool secure,
	bool as_service, uint64_t timeout_ms, struct ldap_client_stop *stop, struct buf *why,
	struct ldap_client **client_out)
{
	struct ldap_client *c;
	LDAP *ld = NULL;
	int error = ERR_NOT_NOW;

	if (ldap_init_fd(fd, LDAP_PROTO_TCP, o->uri, &ld)) {
		buf_add_str(why, "libldap refuses the connection");
		(void)stop_watch(stop, -1);
		close(fd);
		return ERR_NOT_NOW;
	}
	error = set_options(ld, timeout_ms, why);
	if (!error && (secure || o->start_tls))
		error = set_tls(ld, o, why);
	if (!error && (secure || o->start_tls))
		error = start_tls(ld, !secure, timeout_ms, why);
	if (!error && as_service && o->bind == LDAP_CLIENT_GSSAPI)
		error = bind_gssapi(ld, o, host, timeout_ms, why);
	else if (!error && as_service)
		error = bind_service(ld, o, timeout_ms, why);
	if (stop_watch(stop, -1) || (!error && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0))
		error = error ? error : ERR_NOT_NOW;
	if (error) {
		ldap_unbind_ext(ld, NULL, NULL);
		return error;
	}
	c = xcalloc(1, sizeof(*c));
	c->ld = ld;
	c->fd = fd;
	*client_out = c;
	return 0;
}

int ldap_client_connect(const struct ldap_client_options *o, bool as_service, uint64_t timeout_ms,
	struct ldap_client_stop *stop, struct buf *why, struct ldap_client **client_out)
{
	LDAPURLDesc *url = NULL;
	bool secure;
	int error, fd = -1;

	library_begin();
	buf_printf(why, "%s: ", o->uri);
	if (ldap_url_parse(o->uri, &url)) {
		buf_add_str(why, "no URI");
		return ERR_NOT_NOW;
	}
	secure = !strcmp(url->lud_scheme, "ldaps");
	error = connect_any(url->lud_host,
		url->lud_port ? url->lud_port
		: secure      ? LDAPS_PORT
			      : LDAP_PORT,
		timeout_ms, stop, why, &fd);
	if (!error)
		error = client_open(
			fd, o, url->lud_host, secure, as_service, timeout_ms, stop, why, client_out);
	ldap_free_urldesc(url);
	return error;
}

void ldap_client_close(struct ldap_client **client)
{
	struct ldap_client *c = *client;

	*client = NULL;
	if (!c)
		return;
	ldap_unbind_ext(c->ld, NULL, NULL);
	free(c);
}

int ldap_client_fd(const struct ldap_client *c)
{
	return c->fd;
}

const char *ldap_client_reason(const struct ldap_client *c)
{
	return c->reason;
}

/* ---- asking ---- */

/* LDAP_BUSY too: the socket is full, the server does not read. */
static int asked(struct ldap_client *c, const char *what, int rc)
{
	if (!rc)
		return 0;
	reason_set(c->reason, sizeof(c->reason), what, rc, NULL);
	return rc == LDAP_FILTER_ERROR ? ERR_SYNTAX : ERR_CLOSED;
}

int ldap_client_search(struct ldap_client *c, const struct ldap_client_search *s, int *id_out)
{
	struct timeval limit = {.tv_sec = s->seconds};

	return asked(c, "search",
		ldap_search_ext(c->ld, s->base, s->is_base_only ? LDAP_SCOPE_BASE : LDAP_SCOPE_SUBTREE,
			s->filter, (char **)(uintptr_t)s->attributes, 0, NULL, NULL, &limit,
			(int)s->entries_most, id_out));
}

int ldap_client_bind(struct ldap_client *c, const char *dn, struct slice password, int *id_out)
{
	struct berval cred;
	char *copy;
	int rc;

	if (!password.len || slice_find(password, '\0') >= 0 || !*dn)
		return ERR_DENIED;
	copy = xmemdup0(password.p, password.len);
	cred = (struct berval){.bv_len = password.len, .bv_val = copy};
	rc = ldap_sasl_bind(c->ld, dn, LDAP_SASL_SIMPLE, &cred, NULL, NULL, id_out);
	explicit_bzero(copy, password.len);
	free(copy);
	return asked(c, "bind", rc);
}

void ldap_client_abandon(struct ldap_client *c, int id)
{
	(void)ldap_abandon_ext(c->ld, id, NULL, NULL);
}

/* ---- answers ---- */

static struct ldap_client_values values_copy(
	struct arena *a, LDAP *ld, LDAPMessage *entry, const char *attribute)
{
	struct berval **values = ldap_get_values_len(ld, entry, attribute);
	struct ldap_client_values out = {0};
	struct slice *at;
	size_t n = values ? (size_t)ldap_count_values_len(values) : 0;

	if (n > LDAP_CLIENT_VALUES_MOST)
		n = LDAP_CLIENT_VALUES_MOST;
	at = n ? arena_calloc(a, n, sizeof(*at)) : NULL;
	for (size_t i = 0; at && i < n; i++) {
		struct slice copy = arena_copy(a, slice_of(values[i]->bv_val, values[i]->bv_len));

		if (copy.p || !values[i]->bv_len)
			at[out.count++] = copy;
	}
	out.at = at;
	if (values)
		ldap_value_free_len(values);
	return out;
}

static void entry_copy(struct arena *a, LDAP *ld, LDAPMessage *entry, const char *const *attributes,
	struct ldap_client_answer *answer)
{
	struct ldap_client_values *values;
	size_t n = 0;
	char *dn = ldap_get_dn(ld, entry);

	while (attributes && attributes[n])
		n++;
	values = arena_calloc(a, n + 1, sizeof(*values));
	for (size_t i = 0; values && i < n; i++)
		values[i] = values_copy(a, ld, entry, attributes[i]);
	answer->attributes = values;
	answer->dn = dn ? arena_copy_str(a, slice_str(dn)) : NULL;
	ldap_memfree(dn);
	if (!values || !answer->dn)
		answer->error = ERR_NOT_NOW;
}

/* The one place where result codes become ours. */
static int error_from_code(int code)
{
	switch (code) {
	case LDAP_SUCCESS:
	case LDAP_SIZELIMIT_EXCEEDED: /* more than we wanted to see */
		return 0;
	case LDAP_INVALID_CREDENTIALS:
	case LDAP_INAPPROPRIATE_AUTH: /* the entry has no password */
		return ERR_DENIED;
	case LDAP_NO_SUCH_OBJECT:
		return ERR_NOT_FOUND;
	default:
		return ERR_NOT_NOW;
	}
}

static void answer_fill(struct ldap_client *c, struct arena *a, LDAPMessage *message,
	const char *const *attributes, struct ldap_client_answer *answer)
{
	LDAPMessage *entry = ldap_first_entry(c->ld, message);
	int code = LDAP_DECODING_ERROR;
	char *said = NULL, **referrals = NULL;

	answer->entries = (size_t)(entry ? ldap_count_entries(c->ld, message) : 0);
	if (ldap_parse_result(c->ld, message, &code, NULL, &said, &referrals, NULL, 0))
		code = LDAP_DECODING_ERROR;
	answer->error = error_from_code(code);
	if (code)
		reason_set(answer->reason, sizeof(answer->reason), "answer", code, said);
	if (code == LDAP_REFERRAL && referrals && referrals[0])
		answer->referral = arena_copy_str(a, slice_str(referrals[0]));
	ldap_memvfree((void **)referrals);
	ldap_memfree(said);
	if (code == LDAP_SIZELIMIT_EXCEEDED && answer->entries < 2) {
		answer->error = answer->entries ? 0 : ERR_NOT_NOW;
		answer->entries = 2;
	}
	if (entry && !answer->error)
		entry_copy(a, c->ld, entry, attributes, answer);
}

int ldap_client_next(struct ldap_client *c, struct arena *a, ldap_client_attributes_fn *attributes_of,
	void *arg, struct ldap_client_answer *answer_out)
{
	struct timeval now = {0};
	LDAPMessage *message = NULL;
	int rc = ldap_result(c->ld, LDAP_RES_ANY, LDAP_MSG_ALL, &now, &message);
	int code = LDAP_SERVER_DOWN;

	if (rc == 0)
		return 0;
	if (rc < 0 || !message ||
		ldap_msgid(message) == 0) { /* 0: a notice of disconnection, RFC 4511 section 4.4.1 */
		if (rc < 0)
			ldap_get_option(c->ld, LDAP_OPT_RESULT_CODE, &code);
		reason_set(c->reason, sizeof(c->reason), "read", code ? code : LDAP_SERVER_DOWN, NULL);
		ldap_msgfree(message);
		return ERR_CLOSED;
	}
	*answer_out = (struct ldap_client_answer){.id = ldap_msgid(message)};
	answer_fill(c, a, message, attributes_of(arg, answer_out->id), answer_out);
	ldap_msgfree(message);
	return 1;
}
