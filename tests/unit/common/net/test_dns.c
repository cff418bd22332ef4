/* Questions to the DNS: against a server of our own on the same loop that says what no honest one would, and against nsd with
 * signed zones (tests/flow/dns_zone.py). */
#include "tests/unit/common/net/net_test.h"

#include <netinet/in.h>
#include <strings.h>
#include <sys/wait.h>

#include "common/net/dns.h"

/* ---- a server that lies ---- */

enum lie {
	LIE_NONE,
	LIE_SILENT,
	LIE_FAIL,
	LIE_NO_NAME,
	LIE_NO_DATA,
	LIE_CUT,   /* says that there is more, over TCP, where nobody is */
	LIE_COUNT, /* says that there are more records than there are */
};

/* What is said to questions for <label>.example.test, whatever the type: `count` records with this data. */
static const struct {
	const char *label;
	enum lie lie;
	unsigned count;
	const char *data;
	size_t len;
} zone[] = {
#define DATA(text) text, sizeof(text) - 1
	{"addresses", LIE_NONE, 2, DATA("\xc0\x00\x02\x01")},
	{"many", LIE_NONE, 130, DATA("\xc0\x00\x02\x01")},
	{"mx", LIE_NONE, 1, DATA("\0\x0a\2MX\7example\4test\0")},
	{"null", LIE_NONE, 1, DATA("\0\0\0")},
	{"crlf", LIE_NONE, 1, DATA("\0\x0a\6m\r\nx:y\7example\4test\0")},
	{"blank", LIE_NONE, 1, DATA("\0\x0a\3m x\7example\4test\0")},
	{"dotted", LIE_NONE, 1, DATA("\0\x0a\3m.x\7example\4test\0")},
	{"high", LIE_NONE, 1, DATA("\0\x0a\3m\xffx\7example\4test\0")},
	{"short", LIE_NONE, 1, DATA("\0\x0a\7mx")},
	{"txt", LIE_NONE, 1, DATA("\3v=s\3pf1\0\4 \r\n\xff")},
	{"tlsa", LIE_NONE, 1, DATA("\3\1\1abc")},
	{"tlsa-empty", LIE_NONE, 1, DATA("\3\1\1")},
	{"silent", LIE_SILENT, 0, NULL, 0},
	{"fail", LIE_FAIL, 0, NULL, 0},
	{"missing", LIE_NO_NAME, 0, NULL, 0},
	{"empty", LIE_NO_DATA, 0, NULL, 0},
	{"cut", LIE_CUT, 1, DATA("\xc0\x00\x02\x01")},
	{"counts", LIE_COUNT, 1, DATA("\xc0\x00\x02\x01")},
	{"!a b\\c", LIE_NONE, 1, DATA("\xc0\x00\x02\x07")},
#undef DATA
};

static struct loop *loop;
static int server_fd;
static struct loop_watch *server_watch;
static unsigned asked_count;

static void put16(struct buf *b, unsigned n)
{
	buf_add_char(b, (char)(n >> 8));
	buf_add_char(b, (char)n);
}

static void answer_question(struct slice query, size_t end, size_t row, struct buf *answer)
{
	static const unsigned rcodes[] = {[LIE_FAIL] = 2, [LIE_NO_NAME] = 3, [LIE_COUNT] = 0};
	enum lie lie = zone[row].lie;

	buf_add_slice(answer, slice_sub(query, 0, 2));
	put16(answer, 0x8580u | rcodes[lie] | (lie == LIE_CUT ? 0x0200u : 0));
	put16(answer, 1);
	put16(answer, zone[row].count + (lie == LIE_COUNT ? 9 : 0));
	put16(answer, 0);
	put16(answer, 0);
	buf_add_slice(answer, slice_sub(query, 12, end + 5 - 12));
	for (unsigned i = 0; i < zone[row].count; i++) {
		put16(answer, 0xc00c); /* the name of the question */
		buf_add_slice(answer, slice_sub(query, end + 1, 4));
		put16(answer, 0);
		put16(answer, 300);
		put16(answer, (unsigned)zone[row].len);
		buf_add(answer, zone[row].data, zone[row].len);
		if (zone[row].count > 1) /* records of a set differ */
			answer->data[answer->end - 1] = (char)i;
	}
}

static void on_query(void *arg, int ready)
{
	char query[512];
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	ssize_t n =
		recvfrom(server_fd, query, sizeof(query), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
	struct buf answer = {0};
	size_t end = 12, row = 0;

	(void)arg;
	(void)ready;
	if (n < 17)
		return;
	asked_count++;
	while (row < ARRAY_LEN(zone) &&
		((size_t)query[12] != strlen(zone[row].label) ||
			strncasecmp(query + 13, zone[row].label, (size_t)query[12]) != 0))
		row++;
	if (row == ARRAY_LEN(zone) || zone[row].lie == LIE_SILENT)
		return;
	while (query[end])
		end += (size_t)query[end] + 1u;
	answer_question(slice_of(query, (size_t)n), end, row, &answer);
	sendto(server_fd, answer.data, buf_len(&answer), 0, (struct sockaddr *)&from, from_len);
	buf_deinit(&answer);
}

static int set_up(void **state)
{
	struct dns_options options = {0};
	struct buf why = {0};
	struct addr addr;
	char servers[64];

	(void)state;
	asked_count = 0;
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1"), 0, &addr), 0);
	server_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server_fd, (struct sockaddr *)&addr.ss, addr.len), 0);
	getsockname(server_fd, (struct sockaddr *)&addr.ss, &addr.len);
	snprintf(servers, sizeof(servers), "127.0.0.1:%u", addr_port(&addr));
	options.servers = servers;
	assert_int_equal(loop_watch_start(loop, server_fd, LOOP_READABLE, on_query, NULL, &server_watch), 0);
	return dns_init(&options, &why);
}

static int tear_down(void **state)
{
	(void)state;
	loop_watch_stop(&server_watch);
	close(server_fd);
	loop_free(&loop);
	dns_deinit();
	return 0;
}

/* ---- what came ---- */

struct got {
	unsigned calls;
	struct dns_answer answer;
	char first[300]; /* of the first record, printed */
	size_t first_len;
	char canonical[260], detail[300];
	struct dns_request *request;
};

static void print_record(const struct dns_record *r, struct got *got)
{
	struct addr addr;
	char text[ADDR_TEXT_MAX];
	struct slice s = r->type == DNS_TXT ? r->text : r->type == DNS_TLSA ? r->data : r->name;

	if (r->type == DNS_A || r->type == DNS_AAAA) {
		dns_record_addr(r, 0, &addr);
		s = slice_str(addr_host(&addr, text));
	}
	memcpy(got->first, s.p, s.len);
	got->first[s.len] = '\0';
	got->first_len = s.len;
}

static void on_answer(void *arg, const struct dns_answer *answer)
{
	struct got *got = arg;

	got->calls++;
	got->answer = *answer;
	if (answer->count)
		print_record(&answer->records[0], got);
	snprintf(got->canonical, sizeof(got->canonical), "%s", answer->canonical);
	snprintf(got->detail, sizeof(got->detail), "%s", answer->detail);
}

static void ask(struct got *got, const char *name, enum dns_type type, uint64_t timeout_ms)
{
	*got = (struct got){0};
	assert_int_equal(dns_ask(loop, name, type, timeout_ms, on_answer, got, &got->request), 0);
	assert_int_equal(got->calls, 0);
	RUN_UNTIL(loop, got->calls);
	assert_int_equal(got->calls, 1);
}

static void test_answers(void **state)
{
	static const struct {
		const char *name;
		enum dns_type type;
		int want;
		unsigned count;
		bool is_nxdomain;
		const char *first; /* NULL: of no matter */
		size_t len;        /* 0: strlen(first) */
	} rows[] = {
		{"addresses.example.test", DNS_A, 0, 2, false, NULL, 0},
		{"ADDRESSES.example.test.", DNS_A, 0, 2, false, NULL, 0},
		{"addresses.example.test", DNS_AAAA, ERR_NOT_NOW, 0, false, NULL, 0}, /* four octets */
		{"mx.example.test", DNS_MX, 0, 1, false, "mx.example.test", 0},
		{"null.example.test", DNS_MX, 0, 1, false, "", 0},
		{"txt.example.test", DNS_TXT, 0, 1, false, "v=spf1 \r\n\xff", 10},
		{"tlsa.example.test", DNS_TLSA, 0, 1, false, "abc", 0},
		{"tlsa-empty.example.test", DNS_TLSA, ERR_NOT_NOW, 0, false, NULL, 0},
		{"silent.example.test", DNS_A, ERR_NOT_NOW, 0, false, NULL, 0},
		{"fail.example.test", DNS_TXT, ERR_NOT_NOW, 0, false, NULL, 0},
		{"missing.example.test", DNS_TXT, ERR_NOT_FOUND, 0, true, NULL, 0},
		{"empty.example.test", DNS_TXT, ERR_NOT_FOUND, 0, false, NULL, 0},
		{"!a b\\c.example.test", DNS_A, 0, 1, false, "192.0.2.7", 0},
		{"localhost", DNS_A, 0, 1, false, "127.0.0.1", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct got got;

		ask(&got, rows[i].name, rows[i].type, strncmp(rows[i].name, "silent", 6) == 0 ? 200 : 4000);
		if (got.answer.error != rows[i].want || got.answer.count != rows[i].count)
			fail_msg("%s: got %d and %u records (%s), want %d and %u", rows[i].name,
				got.answer.error, got.answer.count, got.detail, rows[i].want, rows[i].count);
		assert_int_equal(got.answer.is_nxdomain, rows[i].is_nxdomain);
		assert_false(got.answer.is_secure || got.answer.is_bogus || got.answer.is_cut);
		assert_int_equal(got.answer.error == ERR_NOT_NOW, got.detail[0] != '\0');
		if (rows[i].first) {
			assert_int_equal(got.first_len, rows[i].len ? rows[i].len : strlen(rows[i].first));
			assert_memory_equal(got.first, rows[i].first, got.first_len);
		}
		if (rows[i].want == 0 && strcmp(rows[i].name, "localhost") != 0)
			assert_in_range(got.answer.ttl, 290, 300);
	}
}

/* CVE-2026-28753 and its kind: what a name in an answer holds goes into no line of a protocol. */
static void test_security_04_names_in_answers_are_names_of_hosts(void **state)
{
	static const char *const names[] = {"crlf", "blank", "dotted", "high", "short"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char name[64];
		struct got got;

		snprintf(name, sizeof(name), "%s.example.test", names[i]);
		ask(&got, name, DNS_MX, 3000);
		if (got.answer.error != ERR_NOT_NOW || got.answer.count)
			fail_msg("%s: got %d", name, got.answer.error);
	}
}

static void test_security_22_answers_have_a_limit(void **state)
{
	static const char *const lies[] = {"cut.example.test", "counts.example.test"};
	struct got got;

	(void)state;
	ask(&got, "many.example.test", DNS_A, 4000);
	assert_int_equal(got.answer.error, 0);
	assert_int_equal(got.answer.count, DNS_RECORDS_MOST);
	assert_true(got.answer.is_cut);
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		ask(&got, lies[i], DNS_A, 500);
		assert_int_equal(got.answer.error, ERR_NOT_NOW);
	}
}

static void test_security_22_questions_under_way_have_a_limit(void **state)
{
	static struct got got[DNS_ASKED_MOST + 1];

	(void)state;
	for (unsigned i = 0; i < DNS_ASKED_MOST; i++) {
		got[i] = (struct got){0};
		assert_int_equal(dns_ask(loop, "silent.example.test", DNS_A, 60000, on_answer, &got[i],
					 &got[i].request),
			0);
	}
	assert_int_equal(dns_ask(loop, "addresses.example.test", DNS_A, 60000, on_answer,
				 &got[DNS_ASKED_MOST], &got[DNS_ASKED_MOST].request),
		ERR_NOT_NOW);
	dns_cancel(&got[0].request);
	assert_null(got[0].request);
	ask(&got[0], "addresses.example.test", DNS_A, 4000);
	assert_int_equal(got[0].answer.error, 0);
	for (unsigned i = 1; i < DNS_ASKED_MOST; i += 2) /* the others go with the loop */
		dns_cancel(&got[i].request);
}

/* Names of a hostile zone whose servers say nothing: others are answered meanwhile, at once. */
static void test_security_22_silent_names_keep_nobody_waiting(void **state)
{
	static struct got silent[400];
	struct got got;
	char name[64];

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(silent); i++) {
		silent[i] = (struct got){0};
		snprintf(name, sizeof(name), "silent.%u.example.test", i);
		assert_int_equal(
			dns_ask(loop, name, DNS_A, 60000, on_answer, &silent[i], &silent[i].request), 0);
	}
	ask(&got, "addresses.example.test", DNS_A, 2000);
	assert_int_equal(got.answer.error, 0);
	for (unsigned i = 0; i < ARRAY_LEN(silent); i++)
		dns_cancel(&silent[i].request);
}

static void test_what_may_be_asked(void **state)
{
	static const char *const names[] = {"", ".", "a..b", "a\r\nb", "ex\xc3\xa4mple.test", "a\x7f",
		"a123456789012345678901234567890123456789012345678901234567890123.test"};
	struct dns_request *request;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(dns_ask(loop, names[i], DNS_A, 100, on_answer, NULL, &request), ERR_SYNTAX);
	assert_int_equal(asked_count, 0);
}

static void test_cancelled_requests_are_silent(void **state)
{
	struct got got = {0};

	(void)state;
	assert_int_equal(
		dns_ask(loop, "addresses.example.test", DNS_A, 100, on_answer, &got, &got.request), 0);
	dns_cancel(&got.request);
	dns_cancel(&got.request);
	for (int i = 0; i < 10; i++)
		run_short(loop);
	assert_int_equal(got.calls, 0);
}

static void test_reverse(void **state)
{
	static const struct {
		const char *addr, *zone, *want; /* NULL: ERR_SYNTAX */
	} rows[] = {
		{"192.0.2.1", NULL, "1.2.0.192.in-addr.arpa"},
		{"::ffff:192.0.2.1", NULL, "1.2.0.192.in-addr.arpa"},
		{"192.0.2.1", "bl.example.test", "1.2.0.192.bl.example.test"},
		{"2001:db8::567:89ab", NULL,
			"b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"},
		{"192.0.2.1", "bl..example", NULL},
		{"/run/x.sock", NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf out = {0};
		struct addr addr;
		int err;

		assert_int_equal(addr_parse(slice_str(rows[i].addr), 25, &addr), 0);
		err = dns_reverse(&addr, rows[i].zone, &out);
		assert_int_equal(err, rows[i].want ? 0 : ERR_SYNTAX);
		assert_string_equal(buf_str_view(&out), rows[i].want ? rows[i].want : "");
		buf_deinit(&out);
	}
}

/* ---- nsd, signatures ---- */

static const char zones[] =
	"{\"zones\": {"
	"\"signed.test\": \"a A 192.0.2.1\\na AAAA 2001:db8::1\\n@ MX 10 a\\n@ MX 20 b\\nalias CNAME a\\nout "
	"CNAME a.plain.test.\\n"
	"_25._tcp.a TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\\n"
	"long TXT \\\"one \\\" \\\"two\\\"\\n\","
	"\"bogus.test\": \"a A 192.0.2.1\\n_25._tcp.a TLSA 3 1 1 00\\n\","
	"\"plain.test\": \"a A 192.0.2.2\\n@ MX 0 .\\n\","
	"\"2.0.192.in-addr.arpa\": \"1 PTR a.signed.test.\\n\"},"
	"\"signed\": [\"signed.test\"], \"bogus\": [\"bogus.test\"]}\n";

static pid_t nsd_pid;
static int nsd_in;
static bool has_nsd;

static int nsd_start(void **state)
{
	int in[2], out[2];
	char line[512] = "", server[64], anchor[256];
	struct dns_options options = {.servers = server, .trust_anchor = anchor};
	struct buf why = {0};
	ssize_t n = 0;

	(void)state;
	if (system("python3 -c 'import sys; sys.path.insert(0, \"tests/flow\"); import dns_zone; "
		   "sys.exit(not dns_zone.is_there())'") != 0)
		return 0;
	if (pipe(in) || pipe(out))
		return -1;
	nsd_pid = fork();
	if (nsd_pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		execlp("python3", "python3", "tests/flow/dns_zone.py", (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	nsd_in = in[1];
	if (write(nsd_in, zones, sizeof(zones) - 1) < 0)
		return -1;
	/* The line comes in as many pieces as the writer likes. */
	for (ssize_t at = 0; at < (ssize_t)sizeof(line) - 1 && !strchr(line, '\n'); at += n) {
		n = read(out[0], line + at, sizeof(line) - 1 - (size_t)at);
		if (n <= 0)
			break;
	}
	close(out[0]);
	if (n <= 0 || sscanf(line, "ready %63s %255s", server, anchor) != 2) {
		print_error("the name server did not start: %zd %s\n", n, line);
		return -1;
	}
	has_nsd = true;
	if (dns_init(&options, &why) || loop_new(&loop)) {
		print_error("%s: %s\n", line, buf_str_view(&why));
		return -1;
	}
	return 0;
}

static int nsd_stop(void **state)
{
	(void)state;
	if (!has_nsd)
		return 0;
	loop_free(&loop);
	dns_deinit();
	close(nsd_in);
	waitpid(nsd_pid, NULL, 0);
	return 0;
}

static void test_security_22_validation(void **state)
{
	static const struct {
		const char *name;
		enum dns_type type;
		int want;
		unsigned count;
		bool is_secure, is_bogus, is_nxdomain;
		const char *first, *canonical;
	} rows[] = {
		{"a.signed.test", DNS_A, 0, 1, true, false, false, "192.0.2.1", "a.signed.test"},
		{"a.signed.test", DNS_AAAA, 0, 1, true, false, false, "2001:db8::1", "a.signed.test"},
		{"signed.test", DNS_MX, 0, 2, true, false, false, NULL, "signed.test"},
		{"alias.signed.test", DNS_A, 0, 1, true, false, false, "192.0.2.1", "a.signed.test"},
		{"alias.signed.test", DNS_CNAME, 0, 1, true, false, false, "a.signed.test", NULL},
		{"long.signed.test", DNS_TXT, 0, 1, true, false, false, "one two", NULL},
		{"_25._tcp.a.signed.test", DNS_TLSA, 0, 1, true, false, false, NULL, NULL},
		{"_26._tcp.a.signed.test", DNS_TLSA, ERR_NOT_FOUND, 0, true, false, true, NULL, NULL},
		{"a.signed.test", DNS_MX, ERR_NOT_FOUND, 0, true, false, false, NULL, NULL},
		/* half of the way is signed */
		{"out.signed.test", DNS_A, 0, 1, false, false, false, "192.0.2.2", "a.plain.test"},
		{"a.bogus.test", DNS_A, ERR_NOT_NOW, 0, false, true, false, NULL, NULL},
		{"_25._tcp.a.bogus.test", DNS_TLSA, ERR_NOT_NOW, 0, false, true, false, NULL, NULL},
		/* that there is none must be proven too */
		{"missing.bogus.test", DNS_TLSA, ERR_NOT_NOW, 0, false, true, false, NULL, NULL},
		{"a.plain.test", DNS_A, 0, 1, false, false, false, "192.0.2.2", NULL},
		{"plain.test", DNS_MX, 0, 1, false, false, false, "", NULL},
		{"1.2.0.192.in-addr.arpa", DNS_PTR, 0, 1, false, false, false, "a.signed.test", NULL},
		{"elsewhere.invalid", DNS_A, ERR_NOT_FOUND, 0, false, false, true, NULL, NULL},
	};

	(void)state;
	if (!has_nsd) {
		print_message("needs nsd and ldnsutils\n");
		skip();
	}
	assert_true(dns_is_validating());
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct got got;

		ask(&got, rows[i].name, rows[i].type, 4000);
		if (got.answer.error != rows[i].want || got.answer.count != rows[i].count ||
			got.answer.is_secure != rows[i].is_secure ||
			got.answer.is_bogus != rows[i].is_bogus ||
			got.answer.is_nxdomain != rows[i].is_nxdomain)
			fail_msg("%s %d: got %d, %u records, secure %d, bogus %d, nxdomain %d (%s)",
				rows[i].name, (int)rows[i].type, got.answer.error, got.answer.count,
				got.answer.is_secure, got.answer.is_bogus, got.answer.is_nxdomain,
				got.detail);
		if (rows[i].first)
			assert_string_equal(got.first, rows[i].first);
		if (rows[i].canonical)
			assert_string_equal(got.canonical, rows[i].canonical);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		T(test_answers),
		T(test_security_04_names_in_answers_are_names_of_hosts),
		T(test_security_22_answers_have_a_limit),
		T(test_security_22_questions_under_way_have_a_limit),
		T(test_security_22_silent_names_keep_nobody_waiting),
		T(test_what_may_be_asked),
		T(test_cancelled_requests_are_silent),
		cmocka_unit_test(test_reverse),
		cmocka_unit_test_setup_teardown(test_security_22_validation, nsd_start, nsd_stop),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
