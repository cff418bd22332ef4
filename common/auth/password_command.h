/*
 * Making stored passwords on the command line, for map files: `mailtier-proxy --hash-password [SCHEME]` reads
 * passwords from standard input, one a line, and writes their stored texts, one a line. Needs no
 * configuration and no running program.
 */
#pragma once

#include <stdbool.h>

/* True if the command line asks for it: it has been done then, and *status_out is the exit status (0, 1, 64).
 */
bool password_command(int argc, char **argv, int *status_out);
/* For --help. */
#define PASSWORD_COMMAND_HELP                                                                                \
	"  --hash-password [SCHEME]  passwords from standard input, one a line, as stored texts for map "    \
	"files\n"
