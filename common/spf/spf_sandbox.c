#include "common/spf/spf_sandbox.h"

#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static int limit(int resource, rlim_t most)
{
	const struct rlimit r = {most, most};

	return setrlimit((__rlimit_resource_t)resource, &r) ? ERR_IO : 0;
}

static int set_limits(void)
{
	static const struct {
		int resource;
		rlim_t most;
	} rows[] = {
		{RLIMIT_CORE, 0},
		{RLIMIT_FSIZE, 0},
		{RLIMIT_NPROC, 0},
		{RLIMIT_CPU, SPF_SANDBOX_CPU_S},
#if !defined(__SANITIZE_ADDRESS__) &&                                                                        \
	!defined(__SANITIZE_THREAD__) /* their shadows are larger than any limit */
		{RLIMIT_AS, SPF_SANDBOX_MEMORY},
#endif
		{RLIMIT_NOFILE, 1}, /* that there are stays open; none is opened */
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (limit(rows[i].resource, rows[i].most))
			return ERR_IO;
	return 0;
}

/* Memory that is not executable and stands behind no file; the one socket; the end. */
static int allow(scmp_filter_ctx filter)
{
	static const int calls[] = {SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(brk), SCMP_SYS(munmap),
		SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(exit_group),
		SCMP_SYS(rt_sigreturn), SCMP_SYS(clock_gettime), SCMP_SYS(time), SCMP_SYS(getrandom),
		SCMP_SYS(restart_syscall)};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(calls); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
			SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
	if (rc == 0) /* malloc gives back, and takes again, pages of its heaps */
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	return rc;
}

int spf_sandbox_enter(void)
{
	scmp_filter_ctx filter;
	int rc;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || set_limits())
		return ERR_IO;
	filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!filter)
		return ERR_IO;
	rc = allow(filter);
	if (rc == 0)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	return rc ? ERR_IO : 0;
}
