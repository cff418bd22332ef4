/*
 * mailtier-spf: checks SPF records for mailtier-proxy and mailtier-backend, which start it. It has one descriptor, its standard
 * input, a socket of datagrams: a run comes in, a reply goes out (common/proto/spf_wire.h). It ends with the other side, after
 * RUNS_MOST runs, or at the first message that it cannot read.
 *
 *	mailtier-spf --self-test NAME    does what the sandbox forbids; the kernel ends it, or it says that it lived
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/proto/spf_wire.h"
#include "common/spf/spf_eval.h"
#include "common/spf/spf_sandbox.h"

#define RUNS_MOST 100000

/* ---- what must not work ---- */

static void try_socket(void)
{
	socket(AF_INET, SOCK_DGRAM, 0);
}

static void try_open(void)
{
	open("/etc/passwd", O_RDONLY);
}

static void try_create(void)
{
	open("/tmp/mailtier-spf-self-test", O_WRONLY | O_CREAT, 0600);
}

static void try_exec(void)
{
	execl("/bin/true", "true", (char *)NULL);
}

static void try_fork(void)
{
	if (fork() == 0)
		_exit(0);
}

static void try_kill(void)
{
	kill(getppid(), 0);
}

static void try_code(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void try_write(void)
{
	ssize_t n = write(STDERR_FILENO, "", 0);

	(void)n;
}

/* More than there may be. */
static void try_memory(void)
{
	for (unsigned i = 0; i < SPF_SANDBOX_MEMORY >> 20; i++) {
		char *p = malloc(1 << 20);

		if (!p)
			raise(SIGABRT);
		memset(p, 1, 1 << 20);
	}
}

static void try_time(void)
{
	for (volatile unsigned n = 0;; n++)
		;
}

static const struct {
	const char *name;
	void (*run)(void);
} forbidden[] = {
	{"socket", try_socket},
	{"open", try_open},
	{"create", try_create},
	{"exec", try_exec},
	{"fork", try_fork},
	{"kill", try_kill},
	{"code", try_code},
	{"write", try_write},
	{"memory", try_memory},
	{"time", try_time},
};

static int self_test(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(forbidden); i++)
		if (strcmp(forbidden[i].name, name) == 0) {
			if (spf_sandbox_enter())
				return 70;
			forbidden[i].run();
			return 1; /* lived */
		}
	return 64;
}

/* ---- runs ---- */

static int serve(void)
{
	const size_t most = SPF_WIRE_NUMBER_LEN + SPF_WIRE_RUN_MOST + 1;
	char *in = xmalloc(most);
	struct buf reply = {0};

	for (unsigned runs = 0; runs < RUNS_MOST; runs++) {
		ssize_t n = recv(STDIN_FILENO, in, most, 0);

		if (n <= 0)
			return n < 0 && errno == EINTR ? 0 : n < 0;
		buf_clear(&reply);
		buf_add_slice(&reply, slice_sub(slice_of(in, (size_t)n), 0, SPF_WIRE_NUMBER_LEN));
		if (spf_eval(slice_from(slice_of(in, (size_t)n), SPF_WIRE_NUMBER_LEN), &reply))
			return 65;
		if (send(STDIN_FILENO, reply.data + reply.start, buf_len(&reply), MSG_NOSIGNAL) < 0)
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--self-test") == 0)
		return self_test(argv[2]);
	if (argc != 1) {
		fprintf(stderr, "mailtier-spf: is started by mailtier-proxy and mailtier-backend\n");
		return 64;
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) || spf_sandbox_enter())
		_exit(70);
	_exit(serve());
}
