/*
 * The walls around the checker: no new privileges, no core, no files, no sockets, little memory and processor time, and a list of system
 * calls beyond which the kernel ends the process.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/error.h"

#define SPF_SANDBOX_MEMORY (256 * 1024 * 1024) /* address space, of which libraries take most */
#define SPF_SANDBOX_CPU_S 60                   /* of a process's whole life */

/* No way back. ERR_IO: the kernel refuses; then nothing must be evaluated. */
MUST_CHECK int spf_sandbox_enter(void);
