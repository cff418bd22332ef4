/*
 * Processor time of one SPF check, with the answers of the DNS in the resolver's cache: ours (the loop's thread and libunbound's)
 * and the checker's. Serves its own zones by tests/unit/common/front/spf_suite.py; run from the project's folder.
 *
 *	build/bench/common/front/bench_spf [CHECKS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/attr.h"
#include "common/front/spf.h"
#include "common/net/dns.h"

static const char zones[] = "[{\"description\": \"bench\", \"tests\": {}, \"zonedata\": {"
			    "\"ip4.test\": [{\"TXT\": \"v=spf1 ip4:10.0.0.0/8 ip4:192.0.2.0/24 -all\"}],"
			    "\"include.test\": [{\"TXT\": \"v=spf1 include:a.test include:b.test -all\"}],"
			    "\"a.test\": [{\"TXT\": \"v=spf1 ip4:10.0.0.0/8 ip4:10.1.0.0/16 ~all\"}],"
			    "\"b.test\": [{\"TXT\": \"v=spf1 ip4:10.0.0.0/8 ip4:192.0.2.0/24 ~all\"}],"
			    "\"mx.test\": [{\"TXT\": \"v=spf1 mx -all\"}, {\"MX\": [1, \"m1.test\"]}, "
			    "{\"MX\": [2, \"m2.test\"]}],"
			    "\"m1.test\": [{\"A\": \"10.0.0.1\"}], \"m2.test\": [{\"A\": \"192.0.2.1\"}]}}]";

struct bench {
	struct loop *loop;
	struct spf_service *service;
	struct spf_question question;
	unsigned left, right;
};

static void begin(struct bench *b);

static void on_answer(void *arg, const struct spf_answer *answer)
{
	struct bench *b = arg;

	b->right += answer->result == SPF_PASS;
	if (--b->left)
		begin(b);
	else
		loop_stop(b->loop);
}

static void begin(struct bench *b)
{
	struct spf_check *check;

	spf_check(b->service, b->loop, &b->question, 20000, on_answer, b, &check);
}

static double seconds_of(int who)
{
	struct rusage u;

	getrusage(who, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void stop(void *arg)
{
	loop_stop(arg);
}

static void measure(struct bench *b, const char *sender, unsigned checks)
{
	const struct spf_options options = {
		.program = "build/libexec/mailtier-spf", .loops = 1, .least = 1, .most = 1};
	double own, children, wall;

	b->service = spf_service_new(&options);
	b->question.sender = slice_str(sender);
	b->left = 1; /* fills the cache, starts the checker */
	begin(b);
	loop_run(b->loop);
	own = seconds_of(RUSAGE_SELF);
	children = seconds_of(RUSAGE_CHILDREN);
	wall = now();
	b->left = checks;
	b->right = 0;
	begin(b);
	loop_run(b->loop);
	own = seconds_of(RUSAGE_SELF) - own;
	wall = now() - wall;
	spf_service_leave(b->service, b->loop);
	loop_post(b->loop, stop, b->loop);
	loop_run(b->loop);
	spf_service_free(&b->service);
	children = seconds_of(RUSAGE_CHILDREN) - children;
	printf("%-22s %6.1f us ours %6.1f us checker %6.1f us wall  (%u of %u pass)\n", sender,
		own * 1e6 / checks, children * 1e6 / checks, wall * 1e6 / checks, b->right, checks);
}

int main(int argc, char **argv)
{
	static const char *const senders[] = {"a@ip4.test", "a@include.test", "a@mx.test"};
	unsigned checks = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 5000;
	char path[] = "/tmp/bench-spf-XXXXXX.json", line[512], server[64];
	struct dns_options dns = {.servers = server};
	struct bench b = {.question.helo = SLICE_LIT("h.test")};
	struct buf why = {0};
	int fd = mkstemps(path, 5), in[2], out[2];
	FILE *from;

	if (fd < 0 || write(fd, zones, sizeof(zones) - 1) < 0 || pipe(in) || pipe(out))
		return 1;
	if (fork() == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		execlp("python3", "python3", "tests/unit/common/front/spf_suite.py", path, (char *)NULL);
		_exit(127);
	}
	from = fdopen(out[0], "r");
	if (!fgets(line, sizeof(line), from) || sscanf(line, "scenario %63s", server) != 1)
		return 1;
	unlink(path);
	if (dns_init(&dns, &why) || loop_new(&b.loop) ||
		addr_parse(SLICE_LIT("192.0.2.1"), 0, &b.question.client))
		return 1;
	for (size_t i = 0; i < ARRAY_LEN(senders); i++)
		measure(&b, senders[i], checks);
	loop_free(&b.loop);
	close(in[1]);
	return 0;
}
