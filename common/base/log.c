/* Formats into one fixed buffer and writes it in one call, so that lines of several threads do not mix. */
#include "common/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/error.h"

#define LOG_LINE_MOST 2048

static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG"};
static _Atomic int log_level = LOG_INFO;
static _Atomic int log_fd = STDERR_FILENO;

void log_set_level(enum log_level level)
{
	log_level = (int)level;
}

int log_level_parse(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcasecmp(name, names[i]) == 0)
			return (int)i;
	}
	return -1;
}

int log_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	int old;

	if (fd < 0)
		return error_from_errno(errno);
	old = atomic_load(&log_fd);
	if (old != STDERR_FILENO) {
		/* The number stays, so a thread that writes right now is not surprised. */
		int err = dup3(fd, old, O_CLOEXEC) < 0 ? error_from_errno(errno) : 0;

		close(fd);
		return err;
	}
	atomic_store(&log_fd, fd);
	return 0;
}

bool log_is_on(enum log_level level)
{
	return (int)level <= log_level;
}

static size_t add_stamp(char *line, size_t size, enum log_level level, const char *area)
{
	uint64_t now = clock_wall_ms();
	time_t seconds = (time_t)(now / 1000);
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(
		line + n, size - n, ".%03uZ %s %.32s: ", (unsigned)(now % 1000), names[level], area);
	return n;
}

void log_write(enum log_level level, const char *area, const char *format, ...)
{
	char line[LOG_LINE_MOST];
	char text[LOG_LINE_MOST / 2];
	size_t n;
	va_list args;

	if (!log_is_on(level))
		return;
	n = add_stamp(line, sizeof(line), level, area);
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	for (const char *p = text; *p && n < sizeof(line) - 6; p++) {
		unsigned char c = (unsigned char)*p;

		if (c < 32 || c == 127)
			n += (size_t)snprintf(line + n, 5, "\\x%02x", c);
		else
			line[n++] = (char)c;
	}
	line[n++] = '\n';
	while (write(log_fd, line, n) < 0 && errno == EINTR)
		;
}
