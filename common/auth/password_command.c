/* Lines in, lines out; on a terminal nothing is echoed. */
#include "common/auth/password_command.h"

#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "common/auth/password.h"
#include "common/base/secret.h"

static void complain(const char *scheme, int error)
{
	if (error == ERR_UNSUPPORTED)
		fprintf(stderr, "--hash-password: no texts are made for scheme \"%s\"; without one: %s\n",
			scheme, PASSWORD_DEFAULT_SCHEME);
	else if (error == ERR_TOO_BIG)
		fprintf(stderr, "--hash-password: a password of more than %d octets\n", PASSWORD_MOST);
	else if (error == ERR_SYNTAX)
		fprintf(stderr, "--hash-password: an empty password, or one with a NUL, fits nobody\n");
	else
		fprintf(stderr, "--hash-password: %s\n", error_text(error));
}

static int hash_lines(const char *scheme)
{
	char line[PASSWORD_MOST + 3];
	int status = 1;

	while (fgets(line, sizeof(line), stdin)) {
		size_t len = strcspn(line, "\r\n");
		struct buf out = {0};
		int error = ERR_TOO_BIG;

		if (len <= PASSWORD_MOST)
			error = password_make(scheme, slice_of(line, len), &out);
		secret_wipe(line, sizeof(line));
		if (error) {
			complain(scheme, error);
			buf_deinit(&out);
			return error == ERR_UNSUPPORTED ? 64 : 1;
		}
		printf("%s\n", buf_str_view(&out));
		buf_deinit(&out);
		status = 0;
	}
	return fflush(stdout) ? 1 : status;
}

bool password_command(int argc, char **argv, int *status_out)
{
	struct termios old, quiet;
	bool is_tty;

	if (argc < 2 || strcmp(argv[1], "--hash-password") != 0)
		return false;
	if (argc > 3) {
		fprintf(stderr, "usage: %s --hash-password [SCHEME]\n", argv[0]);
		*status_out = 64;
		return true;
	}
	is_tty = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
	if (is_tty) {
		fputs("Password (then Enter and Ctrl-D): ", stderr);
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	}
	*status_out = hash_lines(argc == 3 ? argv[2] : NULL);
	if (is_tty)
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
	return true;
}
