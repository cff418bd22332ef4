/*
 * TLS as a server, asked by OpenSSL's own client: the floor of versions and ciphers, the certificate by the name asked for, what a
 * ticket is good for, keys of tickets in files, certificates of clients.
 */
#include "tests/unit/common/net/net_test.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "common/net/tls_tickets.h"

static struct loop *loop;

static int set_up(void **state)
{
	(void)state;
	return loop_new(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(&loop);
	return 0;
}

static void turn(void)
{
	loop_post(loop, stop_loop, loop);
	loop_run(loop);
}

/* ---- a client ---- */

struct wish {
	int version; /* 0: any */
	const char *name;
	SSL_SESSION *session;
	const char *certificate; /* "client" */
	const char *ciphers;
	const char *groups;
};

struct outcome {
	bool is_open, is_resumed;
	char certificate[64]; /* common name of the server's */
	int version;
	unsigned tickets;
	SSL_SESSION *session; /* owned */
	bool has_peer_certificate;
	char asked[64]; /* conn_authority() */
};

static struct outcome *running;

static int on_session(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	running->tickets++;
	SSL_SESSION_free(running->session);
	running->session = session;
	return 1;
}

static SSL_CTX *client_ctx(const struct wish *wish)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	SSL_CTX_set_security_level(ctx, 0);
	if (wish->version) {
		SSL_CTX_set_min_proto_version(ctx, wish->version);
		SSL_CTX_set_max_proto_version(ctx, wish->version);
	}
	if (wish->ciphers)
		assert_int_equal(SSL_CTX_set_cipher_list(ctx, wish->ciphers), 1);
	if (wish->certificate) {
		char file[64];

		snprintf(file, sizeof(file), "%s.pem", wish->certificate);
		assert_int_equal(SSL_CTX_use_certificate_file(ctx, cert_path(file), SSL_FILETYPE_PEM), 1);
		snprintf(file, sizeof(file), "%s.key", wish->certificate);
		assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, cert_path(file), SSL_FILETYPE_PEM), 1);
	}
	return ctx;
}

static void talk(SSL *ssl, struct peer *server, struct outcome *o)
{
	char octet[16];
	int rc = 0;

	for (unsigned i = 0; i < 500 && rc <= 0; i++) {
		rc = SSL_do_handshake(ssl);
		if (rc <= 0 && SSL_get_error(ssl, rc) != SSL_ERROR_WANT_READ)
			break;
		turn();
	}
	/* TLS 1.3: the client believes to be done while the server still judges its certificate. */
	for (unsigned i = 0;
		i < 500 && rc > 0 && !server->events[CONN_OPENED] && !server->events[CONN_FAILED]; i++)
		turn();
	o->is_open = rc > 0 && server->events[CONN_OPENED];
	for (unsigned i = 0; i < 5; i++) { /* tickets come behind it */
		turn();
		(void)SSL_read(ssl, octet, sizeof(octet));
	}
}

static struct outcome meet(struct tls *tls, const struct wish *wish)
{
	struct outcome o = {0};
	struct peer server = {0};
	SSL_CTX *ctx = client_ctx(wish);
	SSL *ssl = SSL_new(ctx);
	int fds[2];

	running = &o;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(conn_open_fd(loop, fds[0], tls, peer_on_event, &server, &server.conn), 0);
	assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
	SSL_set_fd(ssl, fds[1]);
	SSL_set_connect_state(ssl);
	if (wish->name)
		SSL_set_tlsext_host_name(ssl, wish->name);
	if (wish->session)
		SSL_set_session(ssl, wish->session);
	talk(ssl, &server, &o);
	if (o.is_open) {
		X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(ssl)),
			NID_commonName, o.certificate, sizeof(o.certificate));
		o.is_resumed = SSL_session_reused(ssl);
		o.version = SSL_version(ssl);
		o.has_peer_certificate = conn_has_peer_certificate(server.conn);
		snprintf(o.asked, sizeof(o.asked), "%s", conn_authority(server.conn));
	}
	SSL_set_quiet_shutdown(ssl, 1);
	SSL_shutdown(ssl); /* else the session counts as broken */
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fds[1]);
	peer_deinit(&server);
	turn();
	ERR_clear_error();
	return o;
}

/* ---- servers ---- */

static struct tls *make(const struct tls_server_options *options)
{
	struct buf why = {0};
	struct tls *tls;

	if (tls_server_new(options, &why, &tls) != 0)
		fail_msg("%s", buf_str_view(&why));
	return tls;
}

static struct tls_server_options options_of(const char *service)
{
	return (struct tls_server_options){.certificate = cert_path("server.pem"),
		.key = cert_path("server.key"),
		.session_context = service};
}

static void test_security_02_downgrades_are_refused(void **state)
{
	static const struct {
		struct wish wish;
		bool is_13_only;
		int want; /* version; 0: refused */
	} rows[] = {
		{{.version = 0}, false, TLS1_3_VERSION},
		{{.version = TLS1_3_VERSION}, false, TLS1_3_VERSION},
		{{.version = TLS1_2_VERSION}, false, TLS1_2_VERSION},
		{{.version = TLS1_1_VERSION}, false, 0},
		{{.version = TLS1_VERSION}, false, 0},
		{{.version = TLS1_2_VERSION}, true, 0},
		{{.version = TLS1_3_VERSION}, true, TLS1_3_VERSION},
		{{.version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-SHA256"}, false, 0}, /* CBC */
		{{.version = TLS1_2_VERSION, .ciphers = "aNULL:eNULL"}, false, 0},
		{{.version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305"}, false,
			TLS1_2_VERSION},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tls_server_options options = options_of("imap");
		struct tls *tls;
		struct outcome o;

		options.is_13_only = rows[i].is_13_only;
		tls = make(&options);
		o = meet(tls, &rows[i].wish);
		if (o.version != rows[i].want || o.is_open != (rows[i].want != 0))
			fail_msg("row %zu: version %x", i, (unsigned)o.version);
		SSL_SESSION_free(o.session);
		tls_unref(&tls);
	}
}

static struct tls *make_sni(bool is_strict, const char *const *other_names)
{
	const struct tls_certificate more[] = {
		{cert_path("other.pem"), cert_path("other.key"), other_names},
		{cert_path("wild.pem"), cert_path("wild.key"), NULL},
	};
	struct tls_server_options options = options_of("imap");

	options.more = more;
	options.more_count = ARRAY_LEN(more);
	options.is_strict = is_strict;
	return make(&options);
}

static void test_the_name_asked_for_chooses_the_certificate(void **state)
{
	static const char *const named[] = {"named.example.test", NULL};
	static const struct {
		const char *name, *want, *want_strict; /* NULL: refused */
		const char *const *other_names;
	} rows[] = {
		{NULL, "server", "server", NULL}, {"mail.example.test", "server", "server", NULL},
		{"other.example.test", "other", "other", NULL},
		{"OTHER.Example.TEST", "other", "other", NULL},
		{"second.example.test", "other", "other", NULL}, {"a.wild.test", "wild", "wild", NULL},
		{"b.a.wild.test", "server", NULL, NULL}, {"wild.test", "server", NULL, NULL},
		{"unknown.example.test", "server", NULL, NULL},
		{"named.example.test", "other", "other", named},
		{"other.example.test", "server", NULL,
			named}, /* names that are given replace the certificate's */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows) * 4; i++) {
		size_t row = i / 4;
		bool is_strict = i % 2;
		const char *want = is_strict ? rows[row].want_strict : rows[row].want;
		struct wish wish = {
			.name = rows[row].name, .version = i % 4 < 2 ? TLS1_3_VERSION : TLS1_2_VERSION};
		struct tls *tls = make_sni(is_strict, rows[row].other_names);
		struct outcome o = meet(tls, &wish);

		if (o.is_open != (want != NULL) || (want && strcmp(o.certificate, want) != 0))
			fail_msg("row %zu, try %zu: %s", row, i % 4, o.certificate);
		if (want)
			assert_string_equal(o.asked, rows[row].name ? rows[row].name : "");
		SSL_SESSION_free(o.session);
		tls_unref(&tls);
	}
}

/* ---- tickets ---- */

static void use_keys(struct tls_tickets *tickets)
{
	tls_tickets_set(loop, tickets);
	turn();
}

static void write_keys(const char *name, const char *p, size_t len, mode_t mode)
{
	int fd = open(cert_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, p, len), len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static struct tls_tickets *keys_of(const char *fill)
{
	char keys[TLS_TICKET_KEYS_MOST * TLS_TICKET_KEY_LEN];
	struct tls_tickets *tickets;
	struct buf why = {0};
	size_t len = strlen(fill);

	for (size_t i = 0; i < len; i++)
		memset(keys + i * TLS_TICKET_KEY_LEN, fill[i], TLS_TICKET_KEY_LEN);
	write_keys("tickets", keys, len * TLS_TICKET_KEY_LEN, 0600);
	assert_int_equal(tls_tickets_read(cert_path("tickets"), &why, &tickets), 0);
	return tickets;
}

/* Two "proxies" are two contexts of the same configuration on keys of their own. */
static void test_tickets_resume_where_a_key_opens_them(void **state)
{
	static const struct {
		const char *first,
			*second; /* keys of the proxy that made the ticket, of the one that gets it */
		bool want;
	} rows[] = {
		{"a", "a", true},
		{"a", "ba", true}, /* rotation: the new key in front */
		{"ab", "b", false},
		{"ba", "b", true},
		{"a", "b", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows) * 2; i++) {
		struct wish wish = {
			.name = "mail.example.test", .version = i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION};
		struct tls_server_options options = options_of("imap");
		struct tls *one = make(&options), *two = make(&options);
		struct tls_tickets *first = keys_of(rows[i / 2].first), *second = keys_of(rows[i / 2].second);
		struct outcome made, used;

		use_keys(first);
		made = meet(one, &wish);
		assert_true(made.is_open && !made.is_resumed);
		assert_int_equal(made.tickets, 1);
		use_keys(second);
		wish.session = made.session;
		used = meet(two, &wish);
		assert_true(used.is_open);
		if (used.is_resumed != rows[i / 2].want)
			fail_msg("row %zu, TLS 1.%zu", i / 2, 3 - i % 2);
		/* A next ticket with TLS 1.3; with 1.2, OpenSSL's client tells of those of full handshakes alone. */
		if (used.tickets != (i % 2 == 0 || !used.is_resumed))
			fail_msg("row %zu, TLS 1.%zu: %u tickets", i / 2, 3 - i % 2, used.tickets);
		SSL_SESSION_free(made.session);
		SSL_SESSION_free(used.session);
		tls_unref(&one);
		tls_unref(&two);
		tls_tickets_unref(&first);
		tls_tickets_unref(&second);
	}
}

static void test_security_07_a_ticket_resumes_on_the_same_terms_alone(void **state)
{
	static const struct {
		const char *service, *certificate, *client_ca;
		bool client_required;
		const char *name;
		bool want;
	} rows[] = {
		{"imap", "server", NULL, false, "mail.example.test", true},
		{"pop3", "server", NULL, false, "mail.example.test", false},
		{"imap", "stranger", NULL, false, "mail.example.test", false},
		{"imap", "server", "ca.pem", false, "mail.example.test", false},
		{"imap", "server", "ca.pem", true, "mail.example.test", false},
		{"imap", "server", NULL, false, "other.example.test",
			false}, /* another certificate by name */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows) * 2; i++) {
		size_t row = i / 2;
		const struct tls_certificate other = {cert_path("other.pem"), cert_path("other.key"), NULL};
		struct wish wish = {.name = "mail.example.test",
			.certificate = rows[row].client_ca ? "client" : NULL,
			.version = i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION};
		struct tls_server_options options = options_of("imap");
		struct tls *one, *two;
		struct outcome made, used;
		char file[64];

		options.more = &other;
		options.more_count = 1;
		one = make(&options);
		snprintf(file, sizeof(file), "%s.pem", rows[row].certificate);
		options.certificate = cert_path(file);
		snprintf(file, sizeof(file), "%s.key", rows[row].certificate);
		options.key = cert_path(file);
		options.client_ca = rows[row].client_ca ? cert_path(rows[row].client_ca) : NULL;
		options.client_required = rows[row].client_required;
		options.session_context = rows[row].service;
		two = make(&options);
		made = meet(one, &wish);
		wish.session = made.session;
		wish.name = rows[row].name;
		used = meet(two, &wish);
		assert_true(made.is_open && used.is_open);
		if (used.is_resumed != rows[row].want)
			fail_msg("row %zu", row);
		assert_int_equal(used.has_peer_certificate, rows[row].client_ca != NULL);
		SSL_SESSION_free(made.session);
		SSL_SESSION_free(used.session);
		tls_unref(&one);
		tls_unref(&two);
	}
}

static void test_a_resumed_session_keeps_its_client_certificate(void **state)
{
	struct wish wish = {.name = "mail.example.test", .certificate = "client"};
	struct tls_server_options options = options_of("imap");
	struct outcome made, used;
	struct tls *tls;

	(void)state;
	options.client_ca = cert_path("ca.pem");
	options.client_required = true;
	tls = make(&options);
	made = meet(tls, &wish);
	wish.session = made.session;
	wish.certificate = NULL;
	used = meet(tls, &wish);
	assert_true(used.is_resumed && used.has_peer_certificate);
	SSL_SESSION_free(made.session);
	SSL_SESSION_free(used.session);
	tls_unref(&tls);
}

static void test_expired_and_foreign_certificates_of_clients_are_refused(void **state)
{
	static const struct {
		const char *certificate;
		bool required, want;
	} rows[] = {
		{"client", true, true},
		{NULL, true, false},
		{NULL, false, true},
		{"expired", false, false},
		{"expired", true, false},
		{"stranger", false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows) * 2; i++) {
		struct wish wish = {
			.certificate = rows[i / 2].certificate, .version = i % 2 ? TLS1_2_VERSION : 0};
		struct tls_server_options options = options_of("imap");
		struct outcome o;
		struct tls *tls;

		options.client_ca = cert_path("ca.pem");
		options.client_required = rows[i / 2].required;
		tls = make(&options);
		o = meet(tls, &wish);
		if (o.is_open != rows[i / 2].want)
			fail_msg("row %zu", i / 2);
		SSL_SESSION_free(o.session);
		tls_unref(&tls);
	}
}

static void test_bad_key_files_are_explained(void **state)
{
	static const struct {
		size_t len;
		mode_t mode;
		const char *want;
	} rows[] = {
		{80, 0600, NULL},
		{16 * 80, 0400, NULL},
		{80, 0644, "others may read"},
		{0, 0600, "no ticket keys"},
		{79, 0600, "no ticket keys"},
		{81, 0600, "no ticket keys"},
		{17 * 80, 0600, "no ticket keys"},
	};
	static const char octets[17 * 80];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tls_tickets *tickets = NULL;
		struct buf why = {0};

		unlink(cert_path("tickets"));
		write_keys("tickets", octets, rows[i].len, rows[i].mode);
		assert_int_equal(
			tls_tickets_read(cert_path("tickets"), &why, &tickets) == 0, rows[i].want == NULL);
		if (rows[i].want)
			assert_non_null(strstr(buf_str_view(&why), rows[i].want));
		tls_tickets_unref(&tickets);
		buf_deinit(&why);
	}
}

/* A context may go while its handshakes are under way (a reload): they end under it. */
static void test_a_context_may_go_during_a_handshake(void **state)
{
	static const char *const alpn[] = {"imap", NULL};
	struct tls *server = tls_test_server(alpn), *client_tls = tls_test_client(true);
	struct peer a = {0}, b = {0};
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(conn_open_fd(loop, fds[0], server, peer_on_event, &a, &a.conn), 0);
	tls_unref(&server);
	assert_int_equal(conn_open_fd(loop, fds[1], NULL, peer_on_event, &b, &b.conn), 0);
	assert_int_equal(conn_start_tls_client(b.conn, client_tls, "mail.example.test"), 0);
	tls_unref(&client_tls);
	RUN_UNTIL(loop, a.events[CONN_OPENED] && b.events[CONN_SECURED]);
	peer_deinit(&a);
	peer_deinit(&b);
}

static void make_more(X509 *ca, EVP_PKEY *ca_key)
{
	static const struct {
		const char *name, *alt;
		long ends;
	} rows[] = {
		{"other", "DNS:other.example.test,DNS:second.example.test", 86400},
		{"wild", "DNS:*.wild.test", 86400},
		{"expired", NULL, -60},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		EVP_PKEY *key;
		X509 *cert = cert_make(rows[i].name, rows[i].alt, ca, ca_key, &key);

		X509_gmtime_adj(X509_getm_notAfter(cert), rows[i].ends);
		X509_sign(cert, ca_key, EVP_sha256());
		cert_write(rows[i].name, cert, key);
		X509_free(cert);
		EVP_PKEY_free(key);
	}
}

static int group_set_up(void **state)
{
	int rc = certs_make(state);
	FILE *f = fopen(cert_path("ca.pem"), "r");
	X509 *ca = PEM_read_X509(f, NULL, NULL, NULL);
	EVP_PKEY *key;

	fclose(f);
	f = fopen(cert_path("ca.key"), "r");
	key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	make_more(ca, key);
	X509_free(ca);
	EVP_PKEY_free(key);
	return rc;
}

static int group_tear_down(void **state)
{
	static const char *const names[] = {
		"other.pem", "other.key", "wild.pem", "wild.key", "expired.pem", "expired.key", "tickets"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlink(cert_path(names[i]));
	return certs_remove(state);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		T(test_security_02_downgrades_are_refused),
		T(test_the_name_asked_for_chooses_the_certificate),
		T(test_tickets_resume_where_a_key_opens_them),
		T(test_security_07_a_ticket_resumes_on_the_same_terms_alone),
		T(test_a_resumed_session_keeps_its_client_certificate),
		T(test_expired_and_foreign_certificates_of_clients_are_refused),
		T(test_bad_key_files_are_explained),
		T(test_a_context_may_go_during_a_handshake),
	};
#undef T

	return cmocka_run_group_tests(tests, group_set_up, group_tear_down);
}
