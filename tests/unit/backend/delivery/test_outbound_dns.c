/* The way to a host: MX, DANE and MTA-STS, against nsd with signed zones (tests/flow/dns_zone.py), a scripted server, and a web server. */
#include "tests/unit/common/net/net_test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "backend/delivery/mta_sts.h"
#include "backend/delivery/tls_report.h"
#include "common/net/dns.h"
#include "tests/unit/backend/delivery/smtp_sink.h"

#define MESSAGE "Subject: hello\r\n\r\nhello\r\n"
#define WORDS "PIPELINING STARTTLS"
#define WEB_HOST "127.0.0.91"

static const struct sink_rule tls_rules[] = {{"STARTTLS", "TLS", 0, 0}, {NULL, NULL, 0, 0}};

static struct loop *loop;
static struct sink sink;
static struct sender sender;
static struct sending sending;
static struct tls *server_tls;
static pid_t nsd_pid;
static int nsd_in = -1;
static bool has_nsd;
static char key_digest[65], ca_digest[65];
static struct listener *web;
static struct conn *web_conns[64];
static unsigned web_count;

/* ---- certificates ---- */

static void hex(char *out, const unsigned char *p, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
}

/* mx.pem: for the good hosts, with the authority behind it in the chain. */
static void make_certificates(void)
{
	unsigned char md[EVP_MAX_MD_SIZE];
	EVP_PKEY *ca_key, *key;
	X509 *ca, *cert;
	unsigned len;
	FILE *f;

	assert_non_null(mkdtemp(cert_directory));
	ca = cert_make("ca", NULL, NULL, NULL, &ca_key);
	cert = cert_make("mx",
		"DNS:mxgood.signed.test,DNS:mxta.signed.test,DNS:mxsts.plain.test,DNS:mta-sts.sts.plain.test,"
		"DNS:mta-sts.stswrong.plain.test,DNS:mta-sts.stsother.plain.test,DNS:mta-sts.ststesting."
		"plain.test,"
		"DNS:mta-sts.stsbig.plain.test,DNS:mta-sts.stsmoved.plain.test,DNS:mta-sts.stshtml.plain."
		"test,"
		"DNS:mta-sts.stschunk.plain.test,DNS:mta-sts.stsnever.plain.test,DNS:mta-sts.stslong.plain."
		"test,"
		"DNS:mta-sts.stshalf.plain.test,DNS:mta-sts.stsslow.plain.test",
		ca, ca_key, &key);
	f = fopen(cert_path("mx.pem"), "a");
	PEM_write_X509(f, ca);
	fclose(f);
	assert_int_equal(X509_pubkey_digest(cert, EVP_sha256(), md, &len), 1);
	/* The digest of the key's octets, as RFC 6698 means it: with its algorithm. */
	unsigned char *der = NULL;
	int der_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);

	assert_int_equal(EVP_Digest(der, (size_t)der_len, md, &len, EVP_sha256(), NULL), 1);
	hex(key_digest, md, len);
	OPENSSL_free(der);
	assert_int_equal(X509_digest(ca, EVP_sha256(), md, &len), 1);
	hex(ca_digest, md, len);
	X509_free(ca);
	X509_free(cert);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(key);
}

/* ---- zones ---- */

static void write_zones(struct buf *out)
{
	static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
	struct buf s = {0};
	unsigned port = sink.port;
	static const char *const hosts[] = {"mxgood", "mxwrong", "mxta", "mxpkix", "mxnone", "mxboth"};

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		buf_printf(&s, "%s A 127.0.0.1\\n%s MX 10 %s\\n", hosts[i], hosts[i] + 2, hosts[i]);
	buf_printf(&s, "alias MX 10 mxalias\\nmxalias CNAME mxgood\\nout MX 10 mx.bogus.test.\\n");
	buf_printf(&s, "_%u._tcp.mxgood TLSA 3 1 1 %s\\n", port, key_digest);
	buf_printf(&s, "_%u._tcp.mxwrong TLSA 3 1 1 %s\\n", port, zeros);
	buf_printf(&s, "_%u._tcp.mxta TLSA 2 0 1 %s\\n", port, ca_digest);
	buf_printf(&s, "_%u._tcp.mxpkix TLSA 1 1 1 %s\\n", port, zeros);
	/* Of one key type the strongest digest alone counts (RFC 7671 section 9): here it does not fit. */
	buf_printf(&s, "_%u._tcp.mxboth TLSA 3 1 1 %s\\n_%u._tcp.mxboth TLSA 3 1 2 %s%s\\n", port, key_digest,
		port, zeros, zeros);
	buf_printf(out, "{\"zones\": {\"signed.test\": \"%s\", ", buf_str_view(&s));
	buf_clear(&s);
	buf_printf(&s, "order MX 10 down\\norder MX 20 up\\ndown A 127.0.0.93\\nup A 127.0.0.1\\n");
	buf_printf(&s, "dead MX 10 dead1\\ndead MX 20 dead2\\ndead1 A 127.0.0.93\\ndead2 A 127.0.0.94\\n");
	buf_printf(&s, "null MX 0 .\\nnohost MX 10 nowhere\\nimplicit A 127.0.0.1\\n");
	buf_printf(&s, "self MX 10 mail.here.example.\\nself MX 20 up\\nbehind MX 10 up\\nbehind MX 20 "
		       "mail.here.example.\\n");
	buf_printf(&s, "empty TXT x\\nmxsts A 127.0.0.1\\nmxplain A 127.0.0.1\\n");
	static const char *const sts[] = {"sts", "stswrong", "stsother", "ststesting", "stsbig", "stsmoved",
		"stshtml", "stsbadcert", "stschunk", "stsnever", "stslong", "stshalf", "stsslow"};
	for (size_t i = 0; i < ARRAY_LEN(sts); i++)
		buf_printf(&s,
			"_mta-sts.%s TXT \\\"v=STSv1; id=1;\\\"\\nmta-sts.%s A " WEB_HOST "\\n%s MX 10 %s\\n",
			sts[i], sts[i], sts[i], i == 0 || i == 2 ? "mxsts" : "mxplain");
	buf_printf(out, "\"plain.test\": \"%s\", \"bogus.test\": \"@ MX 10 mx\\nmx A 127.0.0.1\\n\"}, ",
		buf_str_view(&s));
	buf_printf(out, "\"signed\": [\"signed.test\"], \"bogus\": [\"bogus.test\"]}\n");
	buf_deinit(&s);
}

static int start_nsd(void)
{
	int in[2], out[2];
	char line[512] = "", server[64], anchor[256];
	struct dns_options options = {.servers = server, .trust_anchor = anchor};
	struct buf zones = {0}, why = {0};
	ssize_t n = 0;

	if (system("PATH=$PATH:/usr/sbin which nsd ldns-signzone >/dev/null 2>&1") != 0)
		return 0;
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		return -1;
	nsd_pid = fork();
	if (nsd_pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execlp("python3", "python3", "tests/flow/dns_zone.py", (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	nsd_in = in[1];
	write_zones(&zones);
	if (write(nsd_in, buf_view(&zones).p, buf_len(&zones)) < 0)
		return -1;
	buf_deinit(&zones);
	for (size_t at = 0; at < sizeof(line) - 1 && !strchr(line, '\n'); at += (size_t)n) {
		n = read(out[0], line + at, sizeof(line) - 1 - at);
		if (n <= 0)
			break;
	}
	close(out[0]);
	if (n <= 0 || sscanf(line, "ready %63s %255s", server, anchor) != 2) {
		print_error("the name server did not start: %zd %s\n", n, line);
		return -1;
	}
	has_nsd = true;
	return dns_init(&options, &why);
}

/* ---- the web server ---- */

#define ENFORCE "version: STSv1\r\nmode: enforce\r\nmx: other.plain.test\r\nmax_age: 1000\r\n"

static const char *policy_for(const char *request)
{
	static const struct {
		const char *host, *answer;
	} rows[] = {
#define POLICY(text)                                                                                         \
	"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nversion: STSv1\r\n" text
		{"mta-sts.sts.", POLICY("mode: enforce\r\nmx: *.plain.test\r\nmax_age: 1000\r\n")},
		{"mta-sts.stswrong.", POLICY("mode: enforce\r\nmx: mxplain.plain.test\r\nmax_age: 1000\r\n")},
		{"mta-sts.stsother.", POLICY("mode: enforce\r\nmx: other.plain.test\r\nmax_age: 1000\r\n")},
		{"mta-sts.ststesting.", POLICY("mode: testing\r\nmx: other.plain.test\r\nmax_age: 1000\r\n")},
		{"mta-sts.stsmoved.", "HTTP/1.1 301 Moved\r\nLocation: "
				      "https://mta-sts.stswrong.plain.test/\r\nContent-Length: 0\r\n\r\n"},
		{"mta-sts.stshtml.", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nversion: "
				     "STSv1\r\nmode: enforce\r\n"
				     "mx: other.plain.test\r\nmax_age: 1000\r\n"},
		{"mta-sts.stslong.", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "
				     "100000\r\n\r\n" ENFORCE},
		{"mta-sts.stshalf.", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "
				     "1000\r\n\r\n" ENFORCE},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (strstr(request, rows[i].host))
			return rows[i].answer;
	return NULL;
}

/* Goes on as long as somebody listens. */
static void more_octets(struct conn *conn, bool is_chunked)
{
	for (int i = 0; i < 1000; i++)
		conn_write_str(conn, is_chunked ? "f\r\ncomment: more\r\n\r\n" : "comment: more\r\n");
	conn_want_drained(conn);
}

static bool is_endless, is_chunked;

/* A policy that comes octet by octet. */
#define SLOW_MS 20
static struct {
	struct timer timer;
	struct conn *conn, **slot;
	size_t at;
} slow;

static void next_octet(void *arg)
{
	static const char text[] = ENFORCE;

	(void)arg;
	if (slow.at == sizeof(text) - 1) {
		conn_close(slow.slot);
		return;
	}
	conn_write(slow.conn, slice_of(&text[slow.at++], 1));
	timer_set(&slow.timer, loop, SLOW_MS);
}

static void on_web(void *owner, struct conn *conn, enum conn_event event)
{
	struct conn **slot = owner;
	char request[2048];
	struct slice in;

	if (event == CONN_EOF || event == CONN_FAILED) {
		if (conn == slow.conn)
			timer_stop(&slow.timer);
		conn_abort(slot);
		return;
	}
	if (event == CONN_DRAINED && is_endless)
		more_octets(conn, is_chunked);
	if (event != CONN_DATA)
		return;
	in = conn_input(conn);
	snprintf(request, sizeof(request), "%.*s", SLICE_ARG(in));
	if (!strstr(request, "\r\n\r\n"))
		return;
	assert_non_null(strstr(request, "GET /.well-known/mta-sts.txt HTTP/1.1\r\n"));
	conn_consume(conn, in.len);
	is_chunked = strstr(request, "stschunk");
	is_endless = is_chunked || strstr(request, "stsnever");
	if (is_endless) {
		conn_write_str(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n");
		conn_write_str(conn, is_chunked ? "Transfer-Encoding: chunked\r\n\r\n44\r\n" ENFORCE "\r\n"
						: "\r\n" ENFORCE);
		more_octets(conn, is_chunked);
		return;
	}
	if (strstr(request, "stsslow")) {
		conn_write_str(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
		slow.conn = conn;
		slow.slot = slot;
		timer_init(&slow.timer, next_octet, NULL);
		timer_set(&slow.timer, loop, SLOW_MS);
		return;
	}
	if (policy_for(request)) {
		conn_write_str(conn, policy_for(request));
	} else {
		/* A policy without end. */
		conn_write_str(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nversion: "
				     "STSv1\r\nmode: enforce\r\n"
				     "mx: other.plain.test\r\nmax_age: 1000\r\n");
		for (int i = 0; i < 30000; i++)
			conn_write_str(conn, "comment: more\r\n");
	}
	conn_close(slot);
}

static void on_web_client(void *arg, struct conn *conn)
{
	struct conn **slot = &web_conns[web_count++ % ARRAY_LEN(web_conns)];

	(void)arg;
	*slot = conn;
	conn_set_owner(conn, on_web, slot);
}

static void open_web(void)
{
	struct listener_options options = {.tls = server_tls, .name = "web"};
	struct buf why = {0};

	assert_int_equal(addr_parse(SLICE_LIT(WEB_HOST), 443, &options.addr), 0);
	if (listener_open_on(loop, &options, on_web_client, NULL, &why, &web) != 0)
		web = NULL;
	buf_deinit(&why);
}

/* ---- the rig ---- */

static int set_up(void **state)
{
	struct tls_server_options options;
	struct buf why = {0};

	(void)state;
	if (loop_new(&loop))
		return -1;
	make_certificates();
	options = (struct tls_server_options){
		.certificate = cert_path("mx.pem"), .key = cert_path("mx.key"), .session_context = "test"};
	if (tls_server_new(&options, &why, &server_tls))
		return -1;
	sink_open(&sink, loop, WORDS, tls_rules);
	sink.tls = tls_ref(server_tls);
	if (start_nsd())
		return -1;
	open_web();
	return 0;
}

static int tear_down(void **state)
{
	static const char *const names[] = {"ca.pem", "ca.key", "mx.pem", "mx.key"};

	(void)state;
	sink_free(&sink);
	listener_close(&web);
	for (size_t i = 0; i < ARRAY_LEN(web_conns); i++)
		conn_abort(&web_conns[i]);
	sink_run_short(loop);
	loop_free(&loop);
	dns_deinit();
	tls_unref(&server_tls);
	if (has_nsd) {
		close(nsd_in);
		waitpid(nsd_pid, NULL, 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unlink(cert_path(names[i]));
	return rmdir(cert_directory);
}

static void open_sender(const char *keys, const char *more)
{
	struct buf text = {0};

	buf_printf(&text, "sending {\nport = %u\nca = \"%s\"\nprefer = ipv4-only\nidle = 0\n%s\n}\n%s",
		sink.port, cert_path("ca.pem"), keys, more);
	sender_open(&sender, loop, buf_str_view(&text));
	buf_deinit(&text);
	sink.rules = tls_rules;
	sink.words = WORDS;
	buf_clear(&sink.dialogue);
	sink.messages = 0;
}

struct row {
	const char *domain;
	enum outbound_verdict verdict;
	const char *enhanced, *tls, *host; /* tls: how it ends */
};

static bool ends_with(const char *text, const char *end)
{
	size_t a = strlen(text), b = strlen(end);

	return a >= b && strcmp(text + a - b, end) == 0;
}

static void check_row(const struct row *row)
{
	sending_init(&sending, &sender, row->domain, 1, MESSAGE);
	sending_start(&sending);
	for (int i = 0; !sending.is_done && i < 4000; i++)
		sink_run_short(loop);
	if (!sending.is_done || sending.results[0].verdict != row->verdict ||
		strcmp(sending.results[0].enhanced, row->enhanced) != 0 ||
		!ends_with(sending.results[0].tls, row->tls))
		print_error("%s: %s %s tls=%s relay=%s\n", row->domain, sending.results[0].enhanced,
			sending.results[0].text, sending.results[0].tls, sending.results[0].relay);
	assert_true(sending.is_done);
	assert_int_equal(sending.results[0].verdict, row->verdict);
	assert_string_equal(sending.results[0].enhanced, row->enhanced);
	assert_true(ends_with(sending.results[0].tls, row->tls));
	if (row->host)
		assert_string_equal(sending.results[0].host, row->host);
}

static void check(const struct row *rows, size_t count)
{
	if (!has_nsd)
		skip();
	for (size_t i = 0; i < count; i++)
		check_row(&rows[i]);
	sender_free(&sender);
}

static void test_mx(void **state)
{
	static const struct row rows[] = {
		{"order.plain.test", OUTBOUND_SENT, "2.0.0", "unverified", "up.plain.test"},
		{"implicit.plain.test", OUTBOUND_SENT, "2.0.0", "unverified", "implicit.plain.test"},
		{"behind.plain.test", OUTBOUND_SENT, "2.0.0", "unverified", "up.plain.test"},
		{"null.plain.test", OUTBOUND_FAILED, "5.1.10", "none", ""},
		{"nohost.plain.test", OUTBOUND_FAILED, "5.4.4", "none", ""},
		{"empty.plain.test", OUTBOUND_FAILED, "5.4.4", "none", ""},
		{"missing.plain.test", OUTBOUND_FAILED, "5.1.2", "none", ""},
		{"self.plain.test", OUTBOUND_FAILED, "5.4.6", "none", ""},
		{"bogus.test", OUTBOUND_NOT_NOW, "4.4.3", "none", ""},
		{"[127.0.0.1]", OUTBOUND_SENT, "2.0.0", "unverified", "127.0.0.1"},
	};

	(void)state;
	open_sender("mta-sts = no", "");
	check(rows, ARRAY_LEN(rows));
}

/* A host that did not answer is not waited for again by the next message; when no other is left, it is. */
static void test_hosts_that_are_down(void **state)
{
	static const struct row order[] = {
		{"order.plain.test", OUTBOUND_SENT, "2.0.0", "unverified", "up.plain.test"}};
	static const struct row down[] = {
		{"dead.plain.test", OUTBOUND_NOT_NOW, "4.4.1", "none", "dead2.plain.test"}};
	struct sink back;

	(void)state;
	if (!has_nsd)
		skip();
	open_sender("mta-sts = no", "");
	check_row(order);
	sink_open_at(
		&back, loop, "127.0.0.93", sink.port, "", NULL); /* it is there again, and not asked yet */
	check_row(order);
	assert_int_equal(back.conns_count, 0);
	sink_free(&back);
	check_row(down);
	check_row(down); /* both are known to be down now, and tried all the same */
	sender_free(&sender);
}

static void on_nothing(void *arg, const struct dns_answer *answer)
{
	(void)arg;
	(void)answer;
}

/* A resolver that has all its hands full is asked again, and nobody is put off for it. */
static void test_a_busy_resolver_is_asked_again(void **state)
{
	static struct dns_request *busy[DNS_ASKED_MOST];
	size_t count = 0;

	(void)state;
	if (!has_nsd)
		skip();
	open_sender("mta-sts = no", "");
	while (count < DNS_ASKED_MOST) {
		char name[64];

		snprintf(name, sizeof(name), "busy%zu.plain.test", count);
		if (dns_ask(loop, name, DNS_A, 60000, on_nothing, NULL, &busy[count]) != 0)
			break;
		count++;
	}
	assert_int_equal(count, DNS_ASKED_MOST);
	sending_init(&sending, &sender, "implicit.plain.test", 1, MESSAGE);
	sending_start(&sending);
	SINK_UNTIL(loop, sending.is_done);
	assert_int_equal(sending.results[0].verdict, OUTBOUND_SENT);
	sender_free(&sender);
}

static void test_security_22_dane(void **state)
{
	static const struct row rows[] = {
		{"good.signed.test", OUTBOUND_SENT, "2.0.0", "/dane", "mxgood.signed.test"},
		{"ta.signed.test", OUTBOUND_SENT, "2.0.0", "/dane", "mxta.signed.test"},
		{"alias.signed.test", OUTBOUND_SENT, "2.0.0", "/dane", "mxalias.signed.test"},
		{"none.signed.test", OUTBOUND_SENT, "2.0.0", "/unverified", "mxnone.signed.test"},
		{"pkix.signed.test", OUTBOUND_SENT, "2.0.0", "/unverified", "mxpkix.signed.test"},
		{"wrong.signed.test", OUTBOUND_NOT_NOW, "4.7.5", "none", "mxwrong.signed.test"},
		{"both.signed.test", OUTBOUND_NOT_NOW, "4.7.5", "none", "mxboth.signed.test"},
		{"out.signed.test", OUTBOUND_NOT_NOW, "4.4.3", "none", NULL},
	};

	(void)state;
	open_sender("mta-sts = no", "");
	check(rows, ARRAY_LEN(rows));
	assert_int_equal(sink.messages, 5);
}

/* Where TLSA records are, TLS that is not offered, or fails, is never done without. */
static void test_security_01_no_fall_back_under_dane(void **state)
{
	static const struct row good[] = {{"good.signed.test", OUTBOUND_NOT_NOW, "4.7.4", "none", NULL}};
	static const struct row pkix[] = {{"pkix.signed.test", OUTBOUND_NOT_NOW, "4.7.4", "none", NULL}};
	static const struct row none[] = {{"none.signed.test", OUTBOUND_SENT, "2.0.0", "none", NULL}};

	(void)state;
	if (!has_nsd)
		skip();
	open_sender("mta-sts = no", "");
	sink.words = "PIPELINING";
	check_row(good);
	check_row(pkix);
	check_row(none);
	sender_free(&sender);
}

/* Octets behind the reply to STARTTLS end it; a refusal of STARTTLS is done without where TLS is optional. */
static void test_security_01_starttls_injection(void **state)
{
	static const struct sink_rule injects[] = {
		{"STARTTLS", "220 go\r\n250-sink.example\r\n250 SIZE 1", 0, 0}, {NULL, NULL, 0, 0}};
	static const struct sink_rule refuses[] = {
		{"STARTTLS", "454 4.7.0 not now", 0, 0}, {NULL, NULL, 0, 0}};
	static const struct row not_now[] = {{"none.signed.test", OUTBOUND_NOT_NOW, "4.7.0", "none", NULL}};
	static const struct row sent[] = {{"none.signed.test", OUTBOUND_SENT, "2.0.0", "none", NULL}};

	(void)state;
	if (!has_nsd)
		skip();
	open_sender("mta-sts = no", "");
	sink.rules = injects;
	check_row(not_now);
	assert_int_equal(sink.messages, 0);
	sink.rules = refuses;
	check_row(sent);
	sender_free(&sender);
}

static void test_state_is_forgotten_by_starttls(void **state)
{
	static const struct row sent[] = {{"none.signed.test", OUTBOUND_SENT, "2.0.0", "unverified", NULL}};

	(void)state;
	if (!has_nsd)
		skip();
	open_sender("mta-sts = no", "");
	sink.words = "STARTTLS SIZE_10 CHUNKING DSN";
	sink.tls_words = "PIPELINING";
	check_row(sent);
	assert_null(strstr(buf_str_view(&sink.dialogue), "BDAT"));
	assert_false(sending.results[0].has_dsn);
	sink.tls_words = NULL;
	sender_free(&sender);
}

static void test_levels(void **state)
{
	static const struct {
		const char *level;
		struct row row;
	} rows[] = {
		{"none", {"none.signed.test", OUTBOUND_SENT, "2.0.0", "none", NULL}},
		{"encrypt", {"none.signed.test", OUTBOUND_SENT, "2.0.0", "unverified", NULL}},
		{"verify", {"none.signed.test", OUTBOUND_NOT_NOW, "4.7.5", "none", NULL}},
		{"verify", {"good.signed.test", OUTBOUND_SENT, "2.0.0", "verified", NULL}},
		{"may", {"[127.0.0.1]", OUTBOUND_SENT, "2.0.0", "unverified", NULL}},
		{"dane", {"none.signed.test", OUTBOUND_NOT_NOW, "4.7.5", "none", NULL}},
		{"dane", {"good.signed.test", OUTBOUND_SENT, "2.0.0", "dane", NULL}},
	};

	(void)state;
	if (!has_nsd)
		skip();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char keys[64];

		snprintf(keys, sizeof(keys), "mta-sts = no\ntls = %s", rows[i].level);
		open_sender(keys, "");
		check_row(&rows[i].row);
		sender_free(&sender);
	}
}

/* TLS from the first octet, under a route (RFC 8314). */
static void test_implicit_tls(void **state)
{
	static const struct {
		const char *host, *keys;
		enum outbound_verdict verdict;
		const char *tls;
	} rows[] = {{"mxgood.signed.test", "tls = verify", OUTBOUND_SENT, "/verified"},
		{"mxnone.signed.test", "tls = verify", OUTBOUND_NOT_NOW, "none"},
		{"mxnone.signed.test", "tls = encrypt", OUTBOUND_SENT, "/unverified"}};
	struct listener_options options = {.tls = server_tls, .name = "submissions"};
	struct listener *listener = NULL;
	struct buf why = {0};

	(void)state;
	if (!has_nsd)
		skip();
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &options.addr), 0);
	assert_int_equal(listener_open_on(loop, &options, sink_on_accept, &sink, &why, &listener), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char more[300];
		struct row row = {"x.example", rows[i].verdict,
			rows[i].verdict == OUTBOUND_SENT ? "2.0.0" : "4.7.5", rows[i].tls, rows[i].host};

		snprintf(more, sizeof(more),
			"route a {\ndomains = {x.example}\nhosts = {\"[%s]:%u\"}\nimplicit-tls = "
			"yes\n%s\n}\n",
			rows[i].host, addr_port(listener_addr(listener)), rows[i].keys);
		open_sender("dane = no", more);
		check_row(&row);
		assert_null(strstr(buf_str_view(&sink.dialogue), "STARTTLS"));
		sender_free(&sender);
	}
	listener_close(&listener);
	sink_run_short(loop);
}

/* REQUIRETLS: verified, and offered there, or it comes back (RFC 8689). */
static void test_requiretls(void **state)
{
	static const struct {
		const char *domain, *words;
		enum outbound_verdict verdict;
		const char *enhanced;
	} rows[] = {{"good.signed.test", WORDS " REQUIRETLS", OUTBOUND_SENT, "2.0.0"},
		{"good.signed.test", WORDS, OUTBOUND_FAILED, "5.7.30"},
		{"order.plain.test", WORDS " REQUIRETLS", OUTBOUND_FAILED, "5.7.30"},
		{"none.signed.test", WORDS " REQUIRETLS", OUTBOUND_NOT_NOW, "4.7.5"}};

	(void)state;
	if (!has_nsd)
		skip();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		open_sender("mta-sts = no", "");
		sink.words = rows[i].words;
		sending_init(&sending, &sender, rows[i].domain, 1, MESSAGE);
		sending.request.requires_tls = true;
		sending_start(&sending);
		for (int n = 0; !sending.is_done && n < 4000; n++)
			sink_run_short(loop);
		assert_int_equal(sending.results[0].verdict, rows[i].verdict);
		assert_string_equal(sending.results[0].enhanced, rows[i].enhanced);
		assert_int_equal(strstr(buf_str_view(&sink.dialogue), " REQUIRETLS") != NULL,
			rows[i].verdict == OUTBOUND_SENT);
		sender_free(&sender);
	}
}

static void test_mta_sts(void **state)
{
	static const struct row rows[] = {
		{"sts.plain.test", OUTBOUND_SENT, "2.0.0", "/verified", "mxsts.plain.test"},
		{"stswrong.plain.test", OUTBOUND_NOT_NOW, "4.7.5", "none", "mxplain.plain.test"},
		{"stsother.plain.test", OUTBOUND_NOT_NOW, "4.7.5", "none", "mxsts.plain.test"},
		{"ststesting.plain.test", OUTBOUND_SENT, "2.0.0", "/unverified", "mxplain.plain.test"},
		{"stsmoved.plain.test", OUTBOUND_SENT, "2.0.0", "/unverified", "mxplain.plain.test"},
		{"stshtml.plain.test", OUTBOUND_SENT, "2.0.0", "/unverified", "mxplain.plain.test"},
		{"stsbadcert.plain.test", OUTBOUND_SENT, "2.0.0", "/unverified", "mxplain.plain.test"},
	};

	(void)state;
	if (!web)
		skip(); /* port 443 is root's */
	open_sender("", "");
	check(rows, ARRAY_LEN(rows));
}

/* A policy of half a megabyte is none, and costs no more than the limit; nor is one that ends too early. */
static void test_security_23_a_policy_has_a_size(void **state)
{
	static const struct row rows[] = {
		{"stsbig.plain.test", OUTBOUND_SENT, "2.0.0", "/unverified", NULL},
		{"stsnever.plain.test", OUTBOUND_SENT, "2.0.0", "/unverified",
			NULL}, /* the same, without end */
		{"stschunk.plain.test", OUTBOUND_SENT, "2.0.0", "/unverified", NULL}, /* in chunks */
		{"stslong.plain.test", OUTBOUND_SENT, "2.0.0", "/unverified", NULL},  /* as its head says */
		{"stshalf.plain.test", OUTBOUND_SENT, "2.0.0", "/unverified", NULL},  /* cut short */
	};

	(void)state;
	if (!web)
		skip();
	open_sender("", "");
	check(rows, ARRAY_LEN(rows));
}

struct policy_answer {
	bool is_told, has_policy;
	enum mta_sts_fault fault;
};

static void on_policy(void *arg, struct mta_sts_policy *policy, enum mta_sts_fault fault)
{
	*(struct policy_answer *)arg = (struct policy_answer){true, policy != NULL, fault};
	loop_stop(loop);
}

/* Octets that come do not make the time longer in which all of it must be there. */
static void test_security_23_a_policy_has_a_time(void **state)
{
	static const struct {
		uint64_t ms;
		bool has_policy;
	} rows[] = {{400, false}, {30000, true}};
	struct tls *tls;

	(void)state;
	if (!web)
		skip();
	tls = tls_test_client(true);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct mta_sts *m = mta_sts_new(loop, NULL);
		struct mta_sts_request *request;
		struct policy_answer answer = {0};

		slow.at = 0;
		mta_sts_set_fetch_ms(m, rows[i].ms);
		mta_sts_ask(m, "stsslow.plain.test", tls, 5000, on_policy, &answer, &request);
		while (!answer.is_told)
			loop_run(loop);
		assert_int_equal(answer.has_policy, rows[i].has_policy);
		assert_int_equal(answer.fault, rows[i].has_policy ? MTA_STS_SOUND : MTA_STS_UNFETCHED);
		mta_sts_end(m);
		mta_sts_free(&m);
	}
	tls_unref(&tls);
}

/* What is counted for reports of TLS (RFC 8460). */
static void test_reports(void **state)
{
	static const struct {
		const char *domain;
		enum tls_report_policy policy;
		const char *host;
		enum tls_report_result result;
	} rows[] = {
		{"good.signed.test", TLS_REPORT_TLSA, "mxgood.signed.test", TLS_REPORT_SUCCESS},
		{"wrong.signed.test", TLS_REPORT_TLSA, "mxwrong.signed.test", TLS_REPORT_FAILURE},
		{"order.plain.test", TLS_REPORT_NONE, "up.plain.test", TLS_REPORT_SUCCESS},
		{"sts.plain.test", TLS_REPORT_STS, "mxsts.plain.test", TLS_REPORT_SUCCESS},
		{"stswrong.plain.test", TLS_REPORT_STS, "mxplain.plain.test", TLS_REPORT_WRONG_NAME},
		{"stsother.plain.test", TLS_REPORT_STS, "mxsts.plain.test", TLS_REPORT_FAILURE},
		{"ststesting.plain.test", TLS_REPORT_STS, "mxplain.plain.test", TLS_REPORT_FAILURE},
		{"stsbadcert.plain.test", TLS_REPORT_STS, "", TLS_REPORT_STS_WEBPKI},
		{"stsmoved.plain.test", TLS_REPORT_STS, "", TLS_REPORT_STS_FETCH},
	};

	(void)state;
	if (!has_nsd || !web)
		skip();
	open_sender("", "");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tls_report_rows found;
		uint64_t count = 0;

		sending_init(&sending, &sender, rows[i].domain, 1, MESSAGE);
		sending_start(&sending);
		for (int n = 0; !sending.is_done && n < 4000; n++)
			sink_run_short(loop);
		tls_report_rows(outbound_tls_report(sender.o), rows[i].domain, -1, 100, &found);
		for (size_t n = 0; n < found.count; n++)
			if (found.rows[n].policy == rows[i].policy &&
				strcmp(found.rows[n].host, rows[i].host) == 0)
				count += found.rows[n].counts[rows[i].result];
		if (count != 1)
			print_error("%s: %llu\n", rows[i].domain, (unsigned long long)count);
		assert_int_equal(count, 1);
		tls_report_rows_free(&found);
	}
	sender_free(&sender);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_mx),
		cmocka_unit_test(test_hosts_that_are_down),
		cmocka_unit_test(test_a_busy_resolver_is_asked_again),
		cmocka_unit_test(test_security_22_dane),
		cmocka_unit_test(test_security_01_no_fall_back_under_dane),
		cmocka_unit_test(test_security_01_starttls_injection),
		cmocka_unit_test(test_state_is_forgotten_by_starttls), cmocka_unit_test(test_levels),
		cmocka_unit_test(test_implicit_tls), cmocka_unit_test(test_requiretls),
		cmocka_unit_test(test_reports), cmocka_unit_test(test_mta_sts),
		cmocka_unit_test(test_security_23_a_policy_has_a_size),
		cmocka_unit_test(test_security_23_a_policy_has_a_time)};

	mem_init();
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
