/*
 * Checks of SPF by the real checker program (build/libexec), against zones that spf_suite.py serves: our own cases
 * (spf_cases.json), and the suite of openspf.org for RFC 7208 where there is one (rfc7208-tests.yml in the folder that MAILTIER_SPF names,
 * or in a folder `spf` beside the project); checkers that die, lie, hang; what the sandbox forbids.
 */
#include <glob.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/front/spf.h"
#include "common/net/dns.h"
#include "common/net/timer.h"
#include "common/proto/spf_record.h"
#include "common/proto/spf_wire.h"

static struct loop *loop;
static struct spf_service *service;

/* ---- a loop, and a check on it ---- */

static void stop_loop(void *arg)
{
	loop_stop(arg);
}

static void run_short(void)
{
	struct timer timer;

	timer_init(&timer, stop_loop, loop);
	timer_set(&timer, loop, 2);
	loop_run(loop);
	timer_stop(&timer);
}

/* build/unit/common/front/test_spf, build/asan/unit/...: build/libexec. */
static const char *checker(void)
{
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 64);
	char *unit;

	path[n > 0 ? n : 0] = '\0';
	unit = strstr(path, "/unit/");
	if (unit)
		snprintf(unit, 64, "/libexec/mailtier-spf");
	return path;
}

static void start(const char *servers, const char *program)
{
	struct dns_options dns = {.servers = servers};
	struct spf_options options = {.program = program, .loops = 1, .least = 1, .most = 2};
	struct buf why = {0};

	assert_int_equal(dns_init(&dns, &why), 0);
	assert_int_equal(loop_new(&loop), 0);
	if (spf_program_check(program, &why) != 0)
		fail_msg("%s", buf_str_view(&why));
	service = spf_service_new(&options);
}

static void stop(void)
{
	spf_service_leave(service, loop);
	run_short();
	spf_service_free(&service);
	loop_free(&loop);
	dns_deinit();
}

struct got {
	unsigned calls;
	enum spf_result result;
	bool is_helo;
	char domain[300], term[300];
};

static void on_answer(void *arg, const struct spf_answer *answer)
{
	struct got *got = arg;

	got->calls++;
	got->result = answer->result;
	got->is_helo = answer->is_helo;
	snprintf(got->domain, sizeof(got->domain), "%s", answer->domain);
	snprintf(got->term, sizeof(got->term), "%s", answer->term);
}

static void ask(struct got *got, const char *client, const char *helo, const char *sender)
{
	struct spf_question q = {.helo = slice_str(helo), .sender = slice_str(sender)};
	struct spf_check *check;

	*got = (struct got){0};
	assert_int_equal(addr_parse(slice_str(client), 0, &q.client), 0);
	spf_check(service, loop, &q, 20000, on_answer, got, &check);
	assert_int_equal(got->calls, 0);
	for (int i = 0; i < 1600 && !got->calls; i++)
		run_short();
	assert_int_equal(got->calls, 1);
}

/* ---- suites ---- */

struct suite {
	pid_t pid;
	int in;
	FILE *out;
};

static void suite_start(struct suite *s, const char *file)
{
	int in[2], out[2];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	s->pid = fork();
	if (s->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		execlp("python3", "python3", "tests/unit/common/front/spf_suite.py", file, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	s->in = in[1];
	s->out = fdopen(out[0], "r");
}

static void suite_stop(struct suite *s)
{
	close(s->in);
	fclose(s->out);
	waitpid(s->pid, NULL, 0);
}

static bool is_word_of(const char *word, const char *list)
{
	size_t len = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at++)
		if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
			return true;
	return false;
}

static unsigned run_suite(const char *file, unsigned *wrong_out)
{
	struct suite suite;
	char line[4096], scenario[256] = "";
	unsigned count = 0;

	*wrong_out = 0;
	suite_start(&suite, file);
	while (fgets(line, sizeof(line), suite.out) && strcmp(line, "end\n") != 0) {
		char *rest = line, *field[6] = {0};
		struct got got;

		line[strcspn(line, "\n")] = '\0';
		for (size_t i = 0; i < 6 && rest; i++)
			field[i] = strsep(&rest, "\t");
		if (strcmp(field[0], "scenario") == 0) {
			if (service)
				stop();
			start(field[1], checker());
			snprintf(scenario, sizeof(scenario), "%s", field[2]);
			continue;
		}
		assert_non_null(field[5]);
		ask(&got, field[2], field[3], field[4]);
		count++;
		if (!is_word_of(spf_result_word(got.result), field[5])) {
			print_error("%s: %s: got %s (%s), want %s\n", scenario, field[1],
				spf_result_word(got.result), got.term, field[5]);
			++*wrong_out;
		}
	}
	if (service)
		stop();
	suite_stop(&suite);
	return count;
}

static void test_our_cases(void **state)
{
	unsigned wrong, count = run_suite("tests/unit/common/front/spf_cases.json", &wrong);

	(void)state;
	assert_true(count > 20);
	assert_int_equal(wrong, 0);
}

/* The folder above the project, and those beside it. */
static const char *find_suite(void)
{
	static char path[4096];
	const char *named = getenv("MAILTIER_SPF");
	const char *const patterns[] = {"../spf/rfc7208-tests.yml", "../*/spf/rfc7208-tests.yml",
		"../../spf/rfc7208-tests.yml", "../../*/spf/rfc7208-tests.yml"};

	if (named) {
		snprintf(path, sizeof(path), "%s/rfc7208-tests.yml", named);
		return access(path, R_OK) == 0 ? path : NULL;
	}
	for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
		glob_t found;
		int rc = glob(patterns[i], 0, NULL, &found);

		if (rc == 0)
			snprintf(path, sizeof(path), "%s", found.gl_pathv[0]);
		globfree(&found);
		if (rc == 0)
			return path;
	}
	return NULL;
}

static void test_suite_of_rfc_7208(void **state)
{
	const char *file = find_suite();
	unsigned wrong, count;

	(void)state;
	if (!file || system("python3 -c 'import yaml' 2>/dev/null") != 0) {
		print_message("there is no rfc7208-tests.yml, or no python3-yaml\n");
		skip();
	}
	count = run_suite(file, &wrong);
	print_message("%u cases of %s\n", count, file);
	assert_true(count > 180);
	assert_int_equal(wrong, 0);
}

/* ---- checkers that die, lie or hang (class 16) ---- */

static const char *killer_record(void)
{
	static char record[8192];
	size_t len = (size_t)snprintf(record, sizeof(record), "v=spf1 exists:");

	/* CVE-2023-42118: 127 macros fill the library's buffer to its last 3 octets; what is left is reckoned as 3 less 4. */
	for (unsigned i = 0; i < 127; i++)
		len += (size_t)snprintf(record + len, sizeof(record) - len, "%%{l}");
	memset(record + len, 'A', 4000);
	snprintf(record + len + 4000, sizeof(record) - len - 4000, ".test -all");
	return record;
}

/* A checker by itself; its end of the connection. */
static int checker_start(pid_t *pid_out)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*pid_out = fork();
	if (*pid_out == 0) {
		dup2(pair[1], 0);
		execl(checker(), "mailtier-spf", (char *)NULL);
		_exit(127);
	}
	close(pair[1]);
	return pair[0];
}

static ssize_t checker_ask(int fd, const char *record, char *reply, size_t size)
{
	struct spf_wire_run run = {.ip = SLICE_LIT("\xc0\0\2\1"),
		.sender = SLICE_LIT("a@b.test"),
		.helo = SLICE_LIT("h.test"),
		.domain = SLICE_LIT("b.test"),
		.record = slice_str(record)};
	struct buf text = {0};
	ssize_t n;

	buf_add_str(&text, "number.1");
	assert_int_equal(spf_wire_write_run(&run, &text), 0);
	assert_int_equal(send(fd, text.data, buf_len(&text), MSG_NOSIGNAL), buf_len(&text));
	buf_deinit(&text);
	n = recv(fd, reply, size, 0);
	if (n <= 0)
		return n;
	assert_memory_equal(reply, "number.1", 8);
	memmove(reply, reply + 8, (size_t)n - 8);
	return n - 8;
}

static void test_security_16_the_library_s_overflow_kills_a_checker_alone(void **state)
{
	struct spf_wire_reply reply;
	char text[SPF_WIRE_REPLY_MOST];
	int status, fd;
	ssize_t n;
	pid_t pid;

	(void)state;
	fd = checker_start(&pid);
	n = checker_ask(fd, "v=spf1 ip4:192.0.2.1 -all", text, sizeof(text));
	assert_true(n > 0);
	assert_int_equal(spf_wire_read_reply(slice_of(text, (size_t)n), 0, &reply), 0);
	assert_int_equal(reply.result, SPF_PASS);
	n = checker_ask(fd, killer_record(), text, sizeof(text));
	close(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (n <= 0) {
		assert_true(WIFSIGNALED(status)); /* SIGSYS: it wanted to complain */
	} else {                                  /* a library that is mended */
		assert_int_equal(spf_wire_read_reply(slice_of(text, (size_t)n), 0, &reply), 0);
		assert_int_equal(reply.result, SPF_PERMERROR);
	}
}

static void test_security_16_its_record_is_refused_before(void **state)
{
	struct spf_record record;
	const char *why = "";

	(void)state;
	assert_true(spf_record_is_one(slice_str(killer_record())));
	assert_int_equal(spf_record_parse(slice_str(killer_record()), &record, &why, NULL), ERR_TOO_BIG);
}

static void test_security_16_what_the_sandbox_forbids(void **state)
{
	static const struct {
		const char *name;
		bool by_kernel; /* SIGSYS, and not another way of dying */
	} rows[] = {
		{"socket", true},
		{"open", true},
		{"create", true},
		{"exec", true},
		{"fork", true},
		{"kill", true},
		{"code", true},
		{"write", true},
#if !defined(__SANITIZE_ADDRESS__) &&                                                                        \
	!defined(__SANITIZE_THREAD__) /* their shadows are larger than any limit */
		{"memory", false},
#endif
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			execl(checker(), "mailtier-spf", "--self-test", rows[i].name, (char *)NULL);
			_exit(127);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSIGNALED(status) || (rows[i].by_kernel && WTERMSIG(status) != SIGSYS))
			fail_msg("%s: status %#x", rows[i].name, (unsigned)status);
	}
	assert_int_equal(access("/tmp/mailtier-spf-self-test", F_OK), -1);
}

/* A program in the checker's place. */
static const char *script(const char *text)
{
	static char path[] = "/tmp/mailtier-spf-script";
	FILE *f = fopen(path, "w");

	fprintf(f, "#!/bin/sh\n%s\n", text);
	fclose(f);
	chmod(path, 0700);
	return path;
}

static int64_t deaths(void)
{
	return metric_get(metrics_counter("mailtier_spf_checker_deaths", NULL, ""));
}

/* One that says what it wants: `pass` to whatever. */
#define REPLIER                                                                                              \
	"exec python3 -c 'import socket, time; s = socket.socket(fileno=0); m = s.recv(9999); "              \
	"p = b\"\\0\\0\\0\\2\" + b\"\\0\" * 6; "

/* Whatever a checker does, its check ends with temperror, and the next one gets another checker. */
static void test_security_16_bad_checkers_are_temperror(void **state)
{
	static const struct {
		const char *text;
		bool dies;
		enum spf_result want;
	} rows[] = {
		{"exit 3", true, SPF_TEMPERROR},
		{"kill -11 $$", true, SPF_TEMPERROR},
		{"exec python3 -c 'import socket; s = socket.socket(fileno=0); s.recv(9999); "
		 "s.send(b\"nonsense\")'",
			false, SPF_TEMPERROR},
		{"exec python3 -c 'import socket, time; s = socket.socket(fileno=0); s.recv(9999); "
		 "s.send(b\"x\" * "
		 "9000); time.sleep(60)'",
			true, SPF_TEMPERROR},
		{"exec sleep 60", true, SPF_TEMPERROR},
		{REPLIER "s.send(m[:8] + p); time.sleep(60)'", false, SPF_PASS}, /* as it should */
		{REPLIER "s.send(b\"12345678\" + p); time.sleep(60)'", true,
			SPF_TEMPERROR}, /* to another run */
		{REPLIER "s.send(m[:7]); time.sleep(60)'", true, SPF_TEMPERROR},
	};
	struct suite suite;
	char line[4096], server[64];

	(void)state;
	suite_start(&suite, "tests/unit/common/front/spf_cases.json");
	assert_non_null(fgets(line, sizeof(line), suite.out));
	assert_int_equal(sscanf(line, "scenario\t%63s", server), 1);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t before = deaths();
		struct got got;

		start(server, script(rows[i].text));
		ask(&got, "192.0.2.1", "h.test", "a@ip.test");
		if (got.result != rows[i].want)
			fail_msg("%s: %s", rows[i].text, spf_result_word(got.result));
		for (int turn = 0; turn < 2000 && rows[i].dies && deaths() == before; turn++)
			run_short();
		assert_int_equal(deaths() > before, rows[i].dies);
		stop();
	}
	unlink(script(""));
	suite_stop(&suite);
}

/* Those among the children of this process. */
static void kill_checkers(void)
{
	glob_t found;
	unsigned killed = 0;

	assert_int_equal(glob("/proc/[0-9]*/stat", 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *f = fopen(found.gl_pathv[i], "r");
		char name[32];
		int pid, parent;

		if (f && fscanf(f, "%d (%31[^)]) %*c %d", &pid, name, &parent) == 3 &&
			parent == (int)getpid() && strcmp(name, "mailtier-spf") == 0) {
			kill(pid, SIGKILL);
			killed++;
		}
		if (f)
			fclose(f);
	}
	globfree(&found);
	assert_true(killed > 0);
}

static void test_a_killed_checker_is_replaced(void **state)
{
	struct suite suite;
	char line[4096], server[64];
	struct got got;

	(void)state;
	suite_start(&suite, "tests/unit/common/front/spf_cases.json");
	assert_non_null(fgets(line, sizeof(line), suite.out));
	assert_int_equal(sscanf(line, "scenario\t%63s", server), 1);
	start(server, checker());
	for (unsigned i = 0; i < 3; i++) {
		char client[20];

		snprintf(client, sizeof(client), "192.0.2.%u", i + 1); /* another question each time */
		ask(&got, client, "h.test", "a@ip.test");
		assert_int_equal(got.result, SPF_PASS);
		assert_string_equal(got.term, "ip4:192.0.2.0/24");
		assert_string_equal(got.domain, "ip.test");
		kill_checkers();
		for (int turn = 0; turn < 20; turn++)
			run_short();
	}
	stop();
	suite_stop(&suite);
}

static int64_t remembered(void)
{
	return metric_get(metrics_counter("mailtier_spf_runs_remembered", NULL, ""));
}

/* Without macros neither HELO nor the local part is part of the question; the client is. */
static void test_the_same_question_is_not_evaluated_again(void **state)
{
	static const struct {
		const char *client, *helo, *sender;
		enum spf_result want;
		bool is_known;
	} rows[] = {
		{"192.0.2.1", "h.test", "a@ip.test", SPF_PASS, false},
		{"192.0.2.1", "h.test", "a@ip.test", SPF_PASS, true},
		{"192.0.2.1", "other.test", "b@ip.test", SPF_PASS, true},
		{"198.51.100.1", "h.test", "a@ip.test", SPF_FAIL, false},
		{"198.51.100.1", "h.test", "a@ip.test", SPF_FAIL, true},
	};
	struct suite suite;
	char line[4096], server[64];

	(void)state;
	suite_start(&suite, "tests/unit/common/front/spf_cases.json");
	assert_non_null(fgets(line, sizeof(line), suite.out));
	assert_int_equal(sscanf(line, "scenario\t%63s", server), 1);
	start(server, checker());
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t before = remembered();
		struct got got;

		ask(&got, rows[i].client, rows[i].helo, rows[i].sender);
		assert_int_equal(got.result, rows[i].want);
		assert_int_equal(remembered() > before, rows[i].is_known);
	}
	stop();
	suite_stop(&suite);
}

static void test_cancelled_and_late_checks(void **state)
{
	struct spf_question q = {.helo = SLICE_LIT("h.test"), .sender = SLICE_LIT("a@ip.test")};
	struct spf_check *check;
	struct got got = {0};

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.1"), 0, &q.client), 0);
	start("127.0.0.1:9", checker()); /* nobody answers */
	spf_check(service, loop, &q, 20000, on_answer, &got, &check);
	spf_cancel(&check);
	assert_null(check);
	q.sender = SLICE_LIT("no domain");
	spf_check(service, loop, &q, 20000, on_answer, &got, &check);
	spf_cancel(&check);
	for (int i = 0; i < 5; i++)
		run_short();
	assert_int_equal(got.calls, 0);
	q.sender = SLICE_LIT("a@ip.test");
	spf_check(service, loop, &q, 100, on_answer, &got, &check);
	for (int i = 0; i < 200 && !got.calls; i++)
		run_short();
	assert_int_equal(got.calls, 1);
	assert_int_equal(got.result, SPF_TEMPERROR);
	stop();
}

/* An operator's question is under way when the program ends: it has an answer before the service goes, and nothing comes later. */
static void test_checks_end_with_their_service(void **state)
{
	struct spf_question q = {.helo = SLICE_LIT("h.test"), .sender = SLICE_LIT("a@ip.test")};
	struct spf_check *check;
	struct got got = {0};

	(void)state;
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.1"), 0, &q.client), 0);
	start("127.0.0.1:9", checker()); /* nobody answers */
	spf_check(service, loop, &q, 5, on_answer, &got, &check);
	spf_service_cut(service, loop);
	assert_int_equal(got.calls, 1);
	assert_int_equal(got.result, SPF_TEMPERROR);
	spf_service_free(&service);
	for (int i = 0; i < 10; i++)
		run_short();
	assert_int_equal(got.calls, 1);
	loop_free(&loop);
	dns_deinit();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_our_cases),
		cmocka_unit_test(test_suite_of_rfc_7208),
		cmocka_unit_test(test_security_16_the_library_s_overflow_kills_a_checker_alone),
		cmocka_unit_test(test_security_16_its_record_is_refused_before),
		cmocka_unit_test(test_security_16_what_the_sandbox_forbids),
		cmocka_unit_test(test_security_16_bad_checkers_are_temperror),
		cmocka_unit_test(test_a_killed_checker_is_replaced),
		cmocka_unit_test(test_the_same_question_is_not_evaluated_again),
		cmocka_unit_test(test_cancelled_and_late_checks),
		cmocka_unit_test(test_checks_end_with_their_service),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
