/*
 * mailtierctl: asks a running program over its control socket. Knows no verb: words go to the program as they
 * are, answers come back as rows and a result, and are written as a table for people or as one JSON object
 * for scripts.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "common/base/attr.h"
#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/base/version.h"

enum {
	EXIT_YES = 0,
	EXIT_NO = 1,
	EXIT_USAGE = 64,
	EXIT_BROKEN = 70,
	EXIT_NOT_NOW = 75
};

#define RUN_FOLDER "/run/mailtier/"
#define INPUT_MOST (64u * 1024 * 1024)
#define PASSWORD_MOST 1024
#define SCREEN_WIDTH 120
/* Rows that wait for the widths of a table; a longer one is written in parts of so many. */
#define ROWS_MOST 1000
/* Between two lines of progress, where they cannot replace each other. */
#define PROGRESS_S 5

static NORETURN void die(int status, const char *format, ...) PRINTF_LIKE(2, 3);

static NORETURN void die(int status, const char *format, ...)
{
	va_list args;

	fputs("mailtierctl: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(status);
}

static NORETURN void usage(FILE *out, int status)
{
	fputs("usage: mailtierctl [-s SOCKET] [--json] VERB...\n"
	      "  -s SOCKET  the program's control socket; \"proxy\" and \"backend\" stand for " RUN_FOLDER
	      "proxy.sock and\n"
	      "             " RUN_FOLDER
	      "backend.sock; else $MAILTIER_SOCKET, or the one of these that is there\n"
	      "  --json     one JSON object instead of tables\n"
	      "mailtierctl help lists the verbs that the program has, help WORD those that begin with it.\n"
	      "Exit status: 0 yes, 1 no, 75 not now, 64 usage, 70 broken.\n",
		out);
	exit(status);
}

/* ---- the socket ---- */

static const char *find_socket(const char *given)
{
	static char path[256];
	const char *from_environment = getenv("MAILTIER_SOCKET");
	bool proxy = access(RUN_FOLDER "proxy.sock", F_OK) == 0;
	bool backend = access(RUN_FOLDER "backend.sock", F_OK) == 0;

	if (given && strpbrk(given, "/."))
		return given;
	if (given) {
		snprintf(path, sizeof(path), RUN_FOLDER "%s.sock", given);
		return path;
	}
	if (from_environment && from_environment[0])
		return from_environment;
	if (proxy && backend)
		die(EXIT_USAGE, "a proxy and a back-end run here; say -s proxy or -s backend");
	if (!proxy && !backend)
		die(EXIT_NOT_NOW, "no program runs here (no socket in " RUN_FOLDER "); say -s SOCKET");
	return proxy ? RUN_FOLDER "proxy.sock" : RUN_FOLDER "backend.sock";
}

static FILE *open_socket(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FILE *stream;

	if (strlen(path) >= sizeof(un.sun_path))
		die(EXIT_USAGE, "%s: is too long for a socket", path);
	memcpy(un.sun_path, path, strlen(path) + 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)))
		die(errno == EACCES || errno == EPERM ? EXIT_NO : EXIT_NOT_NOW, "%s: %s", path,
			strerror(errno));
	stream = fdopen(fd, "r+");
	if (!stream)
		die(EXIT_BROKEN, "%s", strerror(errno));
	return stream;
}

/* ---- input ---- */

/* A line without echo from the terminal, or the first line of standard input. */
static json_t *read_password(const char *what)
{
	char line[PASSWORD_MOST];
	struct termios old, quiet;
	bool is_tty = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
	json_t *json;

	if (is_tty) {
		fprintf(stderr, "%s: ", what);
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	}
	if (!fgets(line, sizeof(line), stdin))
		line[0] = '\0';
	if (is_tty) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
		fputc('\n', stderr);
	}
	line[strcspn(line, "\r\n")] = '\0';
	if (!line[0])
		die(EXIT_USAGE, "no password was given on standard input");
	json = json_string(line);
	secret_wipe(line, sizeof(line));
	if (!json)
		die(EXIT_USAGE, "the password is no UTF-8");
	return json;
}

static json_t *read_all(void)
{
	size_t room = 65536, len = 0, n;
	char *text = xmalloc(room);
	json_t *json;

	while ((n = fread(text + len, 1, room - len, stdin)) > 0) {
		len += n;
		if (len > INPUT_MOST)
			die(EXIT_USAGE, "standard input is larger than %u bytes", INPUT_MOST);
		if (len == room)
			text = xreallocarray(text, room *= 2, 1);
	}
	json = json_stringn(text, len);
	free(text);
	if (!json)
		die(EXIT_USAGE, "standard input is no UTF-8");
	return json;
}

/* ---- output ---- */

/* Text of a value for a table. The caller frees. */
static char *cell(const json_t *value)
{
	char *text;

	if (json_is_string(value)) {
		text = xmemdup0(json_string_value(value), json_string_length(value));
	} else if (json_is_boolean(value)) {
		text = xstrdup(json_is_true(value) ? "yes" : "no");
	} else if (json_is_array(value)) {
		size_t len = 1;
		size_t i;
		json_t *item;

		text = xcalloc(1, 1);
		json_array_foreach(value, i, item)
		{
			char *one = cell(item);
			size_t more = strlen(one) + 2;

			text = xreallocarray(text, len + more, 1);
			snprintf(text + len - 1, more + 1, "%s%s", i ? ", " : "", one);
			len = strlen(text) + 1;
			free(one);
		}
	} else {
		text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
		text = text ? text : xstrdup("");
	}
	return text;
}

/* Columns on screen, near enough: UTF-8 characters. */
static int width_of(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

/* Nothing in an answer can steer a terminal. */
static void put(const char *text, bool is_page)
{
	for (; *text; text++)
		putchar(((unsigned char)*text < ' ' && !(is_page && (*text == '\n' || *text == '\t'))) ||
					*text == 127
				? '?'
				: *text);
}

/* The same of a field: those that the program says are times are dates in UTC, ISO 8601. */
static char *field(const json_t *times, const char *key, const json_t *value)
{
	char text[32];
	time_t at = (time_t)json_integer_value(value);
	struct tm tm;
	json_t *name;
	size_t i;

	json_array_foreach(times, i, name)
	{
		const char *is = json_string_value(name);

		if (!is || strcmp(is, key) != 0 || !json_is_integer(value))
			continue;
		if (at == 0)
			return xstrdup("never");
		if (gmtime_r(&at, &tm) && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
			return xstrdup(text);
	}
	return cell(value);
}

/* The keys of all rows, in order of their first appearance. */
static json_t *columns_of(const json_t *rows, const json_t *times)
{
	json_t *columns = json_object(), *row, *value;
	const char *key;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		json_object_foreach(row, key, value)
		{
			char *text = field(times, key, value);
			int width = width_of(text), head = width_of(key);
			json_int_t old = json_integer_value(json_object_get(columns, key));

			free(text);
			width = width > head ? width : head;
			json_object_set_new(columns, key, json_integer(width > old ? width : old));
		}
	}
	return columns;
}

/* Two columns that fit on no screen, such as a program's help: the second below the first. */
static bool print_wide_pairs(const json_t *rows, const json_t *columns, const json_t *times)
{
	json_int_t width = 0;
	json_t *row, *value;
	const char *key;
	size_t i;

	json_object_foreach((json_t *)columns, key, value) width += json_integer_value(value);
	if (json_object_size(columns) != 2 || width <= SCREEN_WIDTH)
		return false;
	json_array_foreach(rows, i, row)
	{
		bool is_first = true;

		json_object_foreach(row, key, value)
		{
			char *text = field(times, key, value);

			printf("%s", is_first ? "" : "    ");
			put(text, false);
			putchar('\n');
			free(text);
			is_first = false;
		}
	}
	return true;
}

static void print_rows(const json_t *rows, const json_t *times, bool has_head)
{
	json_t *columns = columns_of(rows, times), *row, *width;
	const char *key;

	if (json_array_size(rows) == 0 || print_wide_pairs(rows, columns, times)) {
		json_decref(columns);
		return;
	}
	for (size_t line = has_head ? 0 : 1; line <= json_array_size(rows); line++) {
		size_t column = 0;

		row = line ? json_array_get(rows, line - 1) : NULL;
		json_object_foreach(columns, key, width)
		{
			json_t *value = row ? json_object_get(row, key) : NULL;
			char *text = value ? field(times, key, value) : xstrdup(row ? "" : key);
			bool is_last = ++column == json_object_size(columns);
			int pad = is_last ? 0 : (int)json_integer_value(width) - width_of(text) + 2;

			if (value && json_is_number(value))
				printf("%*s", is_last ? 0 : pad - 2, "");
			put(text, false);
			if (!is_last)
				printf("%*s", value && json_is_number(value) ? 2 : pad, "");
			free(text);
		}
		putchar('\n');
	}
	json_decref(columns);
}

static void print_result(const json_t *result, const json_t *times)
{
	json_t *value;
	const char *key;
	int widest = 0;

	json_object_foreach((json_t *)result, key, value) widest =
		width_of(key) > widest ? width_of(key) : widest;
	json_object_foreach((json_t *)result, key, value)
	{
		char *text = field(times, key, value);

		if (strcmp(key, "text") != 0)
			printf("%s:%*s", key, widest - width_of(key) + 1, "");
		put(text, strcmp(key, "text") == 0);
		if (strcmp(key, "text") != 0)
			putchar('\n');
		free(text);
	}
}

/* Output in parts: rows go out as they come, so that a long list fills no memory. */
struct output {
	bool as_json;
	json_t *rows;  /* not written yet */
	json_t *times; /* keys whose numbers are seconds since 1970; NULL: none */
	size_t written;
	bool has_line; /* of progress, on the screen */
	time_t progress_at;
};

static void clear_progress(struct output *o)
{
	if (o->has_line)
		fputs("\r\033[K", stderr);
	o->has_line = false;
}

/* A terminal has one line of it, others get some. */
static void show_progress(struct output *o, const char *text)
{
	time_t now = time(NULL);

	if (isatty(STDERR_FILENO)) {
		fputs("\r\033[K", stderr);
		for (; *text; text++)
			fputc((unsigned char)*text < ' ' || *text == 127 ? '?' : *text, stderr);
		o->has_line = true;
	} else if (now - o->progress_at >= PROGRESS_S) {
		fprintf(stderr, "%s\n", text);
		o->progress_at = now;
	}
	fflush(stderr);
}

static void flush_rows(struct output *o)
{
	json_t *row;
	size_t i;

	if (!o->as_json) {
		print_rows(o->rows, o->times, o->written == 0);
	} else {
		json_array_foreach(o->rows, i, row)
		{
			fputs(o->written + i ? ",\n  " : "{\n \"rows\": [\n  ", stdout);
			json_dumpf(row, stdout, JSON_COMPACT);
		}
	}
	o->written += json_array_size(o->rows);
	json_array_clear(o->rows);
}

static void add_row(struct output *o, json_t *row)
{
	json_array_append(o->rows, row);
	if (json_array_size(o->rows) < ROWS_MOST)
		return;
	clear_progress(o);
	flush_rows(o);
}

/* One object: the rows, then the result's keys. */
static void finish_json(struct output *o, const json_t *answer, bool ok, const char *error)
{
	json_t *all = json_object();

	json_object_update(all, json_object_get(answer, "result"));
	if (!ok)
		json_object_set_new(all, "error", json_string(error ? error : ""));
	flush_rows(o);
	if (o->written) {
		char *rest = json_dumps(all, JSON_INDENT(1));

		fputs("\n ]", stdout);
		fputs(json_object_size(all) ? "," : "\n", stdout);
		fputs(rest ? rest + 1 : "}", stdout); /* without its brace */
		free(rest);
	} else {
		if (ok && json_object_size(all) == 0)
			json_object_set(all, "rows", o->rows);
		json_dumpf(all, stdout, JSON_INDENT(1));
	}
	putchar('\n');
	json_decref(all);
}

/* Shows the last answer; gives the exit status. */
static int finish(struct output *o, const json_t *answer)
{
	bool ok = json_is_true(json_object_get(answer, "ok"));
	int status = (int)json_integer_value(json_object_get(answer, "status"));
	const char *error = json_string_value(json_object_get(answer, "error"));

	clear_progress(o);
	if (o->as_json) {
		finish_json(o, answer, ok, error);
	} else {
		flush_rows(o);
		print_result(json_object_get(answer, "result"), o->times);
		if (!ok)
			fprintf(stderr, "mailtierctl: %s\n", error ? error : "the program gave no reason");
	}
	if (fflush(stdout))
		die(EXIT_BROKEN, "cannot write: %s", strerror(errno));
	return ok ? EXIT_YES : status ? status : EXIT_BROKEN;
}

static void send_request(FILE *stream, const json_t *request)
{
	if (json_dumpf(request, stream, JSON_COMPACT) || fputc('\n', stream) == EOF || fflush(stream))
		die(EXIT_NOT_NOW, "the program went away: %s", strerror(errno));
}

/* The file that the program asks for; "": standard input or output. New files are the operator's alone. */
static int open_file(const char *name, bool is_out)
{
	int fd = is_out ? STDOUT_FILENO : STDIN_FILENO;

	if (name[0])
		fd = is_out ? open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
			    : open(name, O_RDONLY | O_CLOEXEC);
	else if (is_out && isatty(fd))
		die(EXIT_USAGE, "standard output is a terminal: name a file, or write to a pipe");
	if (fd < 0)
		die(EXIT_NO, "%s: %s", name, strerror(errno));
	return fd;
}

/* Octets that a descriptor goes along with. */
static void send_with_fd(int socket, int fd, const char *text, size_t len)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} room = {.bytes = {0}};
	struct iovec iov = {(void *)(uintptr_t)text, len};
	struct msghdr message = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room.bytes,
		.msg_controllen = sizeof(room.bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(socket, &message, MSG_NOSIGNAL) != (ssize_t)len)
		die(EXIT_NOT_NOW, "the program went away: %s", strerror(errno));
}

/* Sends the request again with the file. From then on the program alone has the pipe, and what there is to say goes to standard
 * error. */
static void pass_file(FILE *stream, const json_t *request, const char *name, bool is_out)
{
	int fd = open_file(name, is_out), quiet;

	send_with_fd(fileno(stream), fd, " ", 1);
	send_request(stream, request);
	if (name[0]) {
		close(fd);
	} else if (is_out) {
		fflush(stdout);
		dup2(STDERR_FILENO, STDOUT_FILENO);
	} else if ((quiet = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
		dup2(quiet, STDIN_FILENO);
		close(quiet);
	}
}

/* Sends the request and reads answers until the last one; gives the exit status. */
static int ask(FILE *stream, json_t *request, bool as_json)
{
	struct output output = {.as_json = as_json, .rows = json_array()};
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	char *made = NULL; /* a file of ours */
	int status = -1;
	bool has_passed = false;

	send_request(stream, request);
	while (status < 0 && (n = getline(&line, &room, stream)) > 0) {
		json_t *answer = json_loadb(line, (size_t)n, 0, NULL), *part;

		if (!json_is_object(answer))
			die(EXIT_BROKEN, "the program's answer is no JSON");
		if ((part = json_object_get(answer, "times"))) {
			json_decref(output.times);
			output.times = json_incref(part);
		}
		if ((part = json_object_get(answer, "row"))) {
			add_row(&output, part);
		} else if ((part = json_object_get(answer, "progress"))) {
			show_progress(&output, json_is_string(part) ? json_string_value(part) : "");
		} else if ((part = json_object_get(answer, "ask"))) {
			const char *what = json_string_value(part);

			if (what && (strcmp(what, "<") == 0 || strcmp(what, ">") == 0)) {
				const char *file = json_string_value(json_object_get(answer, "file"));

				if (has_passed)
					die(EXIT_BROKEN, "the program asks twice");
				has_passed = true;
				pass_file(stream, request, file ? file : "", what[0] == '>');
				if (file && file[0] && what[0] == '>')
					made = xstrdup(file);
				json_decref(answer);
				continue;
			}
			if (json_object_get(request, "input"))
				die(EXIT_BROKEN, "the program asks twice");
			json_object_set_new(request, "input",
				what && strcmp(what, "*") == 0 ? read_all()
							       : read_password(what ? what : "Password"));
			send_request(stream, request);
		} else {
			status = finish(&output, answer);
		}
		json_decref(answer);
	}
	if (status != EXIT_YES && made)
		unlink(made); /* half of it is of no use, and would be in the way of another try */
	free(made);
	if (status < 0)
		die(EXIT_NOT_NOW, "the program went away before its answer");
	json_decref(output.rows);
	json_decref(output.times);
	free(line);
	return status;
}

int main(int argc, char **argv)
{
	const char *socket_name = NULL;
	bool as_json = false, only_words = false;
	json_t *words = json_array(), *request;
	FILE *stream;
	char cwd[4096];
	int status;

	for (int i = 1; i < argc; i++) {
		if (!only_words && strcmp(argv[i], "--json") == 0) {
			as_json = true;
		} else if (json_array_size(words) == 0 && strcmp(argv[i], "-s") == 0 && i + 1 < argc) {
			socket_name = argv[++i];
		} else if (json_array_size(words) == 0 && strcmp(argv[i], "--version") == 0) {
			puts("mailtierctl " MAILTIER_VERSION);
			return EXIT_YES;
		} else if (json_array_size(words) == 0 &&
			   (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
			usage(stdout, EXIT_YES);
		} else if (json_array_size(words) == 0 && argv[i][0] == '-') {
			usage(stderr, EXIT_USAGE);
		} else {
			only_words = only_words || strcmp(argv[i], "--") == 0;
			if (json_array_append_new(words, json_string(argv[i])))
				die(EXIT_USAGE, "\"%s\" is no UTF-8", argv[i]);
		}
	}
	if (json_array_size(words) == 0)
		usage(stderr, EXIT_USAGE);
	request = json_pack("{s:o}", "argv", words);
	if (getcwd(cwd, sizeof(cwd)))
		json_object_set_new(request, "cwd", json_string(cwd));
	stream = open_socket(find_socket(socket_name));
	status = ask(stream, request, as_json);
	json_decref(request);
	fclose(stream);
	return status;
}
