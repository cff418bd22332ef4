/*
 * Fault points: named places where a test makes the program die or wait. Compiled in only with
 * -DMAILTIER_FAULTS (the `faults` variant); elsewhere they are nothing.
 *
 *	MAILTIER_FAULT=lmtp-after-rcpt:kill            dies there (SIGKILL to itself)
 *	MAILTIER_FAULT=lmtp-after-rcpt:kill:3          at the third passage
 *	MAILTIER_FAULT=store-commit:sleep:1:500        sleeps 500 ms at the first passage
 *	MAILTIER_FAULT_FILE=/path                      the same words, read anew at each passage
 */
#pragma once

#ifdef MAILTIER_FAULTS
void fault_point(const char *name);
#define FAULT(name) fault_point(name)
#else
#define FAULT(name) ((void)0)
#endif
