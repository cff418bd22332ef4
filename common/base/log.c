/*
 * Formats into one fixed buffer and writes it in one call, so that lines of several threads do not mix. What other threads read is swapped as a
 * whole: the tables of areas and targets are never freed, since a line may be on its way through them (there is one for each change of the
 * configuration, some hundred octets).
 */
#include "common/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/metrics.h"

#define LOG_LINE_MOST 2048
#define AREA_MOST 32
#define FACILITY_MAIL (2 << 3)

struct areas {
	struct areas *before; /* the one that it replaced */
	size_t count;
	int most; /* the least urgent of all */
	struct {
		char name[AREA_MOST + 1];
		int level;
	} rows[LOG_AREAS_MOST];
};

struct target {
	struct target *before;
	enum log_target kind;
	int fd; /* datagrams */
	struct sockaddr_un to;
	char name[64];
};

static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG"};
static const int priorities[] = {3, 4, 6, 7}; /* RFC 5424 */
static _Atomic int log_level = LOG_INFO;
static _Atomic int log_fd = STDERR_FILENO;
static _Atomic(struct areas *) log_areas;
static _Atomic(struct target *) log_target;
static struct target *last_target; /* made */
static _Atomic int log_is_journal_stream = -1;
static _Atomic(struct metric *) lost;

/* ---- levels ---- */

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

static int add_area(struct areas *a, const char *row)
{
	const char *equals = strchr(row, '=');
	size_t len = equals ? (size_t)(equals - row) : 0;
	int level = equals ? log_level_parse(equals + 1) : -1;

	if (level < 0 || !len || len > AREA_MOST)
		return -1;
	memcpy(a->rows[a->count].name, row, len);
	a->rows[a->count++].level = level;
	if (level > a->most)
		a->most = level;
	return 0;
}

bool log_is_area_level(const char *text)
{
	struct areas a = {0};

	return add_area(&a, text) == 0;
}

int log_set_levels(const char *const *list, size_t count)
{
	struct areas *a, *old;

	if (count > LOG_AREAS_MOST)
		return -1;
	a = xcalloc(1, sizeof(*a));
	for (size_t i = 0; i < count; i++) {
		if (add_area(a, list[i])) {
			free(a);
			return -1;
		}
	}
	old = atomic_load(&log_areas);
	if (old ? old->count == a->count && memcmp(old->rows, a->rows, sizeof(a->rows)) == 0 : !count) {
		free(a);
		return 0;
	}
	a->before = old;
	atomic_store(&log_areas, a);
	return 0;
}

bool log_is_on(enum log_level level)
{
	const struct areas *a = atomic_load_explicit(&log_areas, memory_order_acquire);

	return (int)level <= log_level || (a && (int)level <= a->most);
}

static bool is_on_for(enum log_level level, const char *area)
{
	const struct areas *a = atomic_load_explicit(&log_areas, memory_order_acquire);

	for (size_t i = 0; a && i < a->count; i++) {
		if (strcmp(area, a->rows[i].name) == 0)
			return (int)level <= a->rows[i].level;
	}
	return (int)level <= log_level;
}

/* ---- targets ---- */

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

int log_to(enum log_target kind, const char *socket_path, const char *name)
{
	static const char *const usual[] = {NULL, "/dev/log", "/run/systemd/journal/socket"};
	const char *path = socket_path && *socket_path ? socket_path : usual[kind];
	struct target *t;

	if (kind == LOG_TO_STREAM) {
		atomic_store(&log_target, NULL);
		return 0;
	}
	t = atomic_load(&log_target);
	if (t && t->kind == kind && strcmp(t->to.sun_path, path) == 0 && strcmp(t->name, name) == 0)
		return 0;
	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return ERR_TOO_BIG;
	t = xcalloc(1, sizeof(*t));
	t->kind = kind;
	t->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (t->fd < 0) {
		free(t);
		return error_from_errno(errno);
	}
	t->to.sun_family = AF_UNIX;
	memcpy(t->to.sun_path, path, strlen(path) + 1);
	snprintf(t->name, sizeof(t->name), "%s", name);
	atomic_store(&lost, metrics_counter("mailtier_log_lost", NULL,
				    "Lines that the syslog daemon or the journal did not take at once"));
	t->before = last_target;
	last_target = t;
	atomic_store(&log_target, t);
	return 0;
}

/* systemd.exec(5): device and inode of our standard error, if the journal reads it. */
static bool is_journal_stream(void)
{
	int is = atomic_load(&log_is_journal_stream);
	unsigned long long device, inode;
	const char *text;
	struct stat st;

	if (is >= 0)
		return is;
	text = getenv("JOURNAL_STREAM");
	is = text && sscanf(text, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	     st.st_dev == device && st.st_ino == inode;
	atomic_store(&log_is_journal_stream, is);
	return is;
}

/* ---- lines ---- */

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

/* Controls are escaped, so that no input can forge a line. */
static size_t clean(const char *text, char *out, size_t size)
{
	size_t n = 0;

	for (const char *p = text; *p && n < size - 6; p++) {
		unsigned char c = (unsigned char)*p;

		if (c < 32 || c == 127)
			n += (size_t)snprintf(out + n, 5, "\\x%02x", c);
		else
			out[n++] = (char)c;
	}
	out[n] = 0;
	return n;
}

static void write_stream(int fd, enum log_level level, const char *area, const char *text)
{
	char line[LOG_LINE_MOST];
	size_t n;

	if (fd == STDERR_FILENO && is_journal_stream())
		n = (size_t)snprintf(line, sizeof(line), "<%d>%.32s: ", priorities[level], area);
	else
		n = add_stamp(line, sizeof(line), level, area);
	n += (size_t)snprintf(line + n, sizeof(line) - n - 1, "%s", text);
	if (n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	while (write(fd, line, n) < 0 && errno == EINTR)
		;
}

/* RFC 3164 section 4.1, as /dev/log takes it: the daemon adds the host. */
static size_t syslog_line(const struct target *t, enum log_level level, const char *area, const char *text,
	char *line, size_t size)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t now = (time_t)(clock_wall_ms() / 1000);
	struct tm tm;

	localtime_r(&now, &tm);
	return (size_t)snprintf(line, size, "<%d>%.3s %2d %02d:%02d:%02d %s[%ld]: %s %.32s: %s",
		FACILITY_MAIL | priorities[level], months + 3 * tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min,
		tm.tm_sec, t->name, (long)getpid(), names[level], area, text);
}

/* "ID: words": the id of the session, if it looks like one. */
static size_t session_of(const char *text, const char **begin)
{
	size_t n;

	*begin = text;
	n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@/+=");
	return n >= 4 && n <= 64 && text[n] == ':' ? n : 0;
}

/* systemd's Native Journal Protocol: one field a line; our texts hold no newline. */
static size_t journal_line(const struct target *t, enum log_level level, const char *area, const char *text,
	char *line, size_t size)
{
	const char *session;
	size_t len = session_of(text, &session);
	size_t n = (size_t)snprintf(line, size,
		"PRIORITY=%d\nSYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=%s\nMAILTIER_AREA=%.32s\n",
		priorities[level], t->name, area);

	if (len)
		n += (size_t)snprintf(line + n, size - n, "MAILTIER_SESSION=%.*s\n", (int)len, session);
	n += (size_t)snprintf(line + n, size - n, "MESSAGE=%.32s: %s\n", area, text);
	return n;
}

static void write_target(const struct target *t, enum log_level level, const char *area, const char *text)
{
	char line[LOG_LINE_MOST];
	size_t n = t->kind == LOG_TO_SYSLOG ? syslog_line(t, level, area, text, line, sizeof(line))
					    : journal_line(t, level, area, text, line, sizeof(line));

	if (n >= sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	while (sendto(t->fd, line, n, MSG_NOSIGNAL, (const struct sockaddr *)(const void *)&t->to,
		       sizeof(t->to)) < 0) {
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN || errno == ENOBUFS)
			metric_add(atomic_load(&lost), 1);
		else
			write_stream(STDERR_FILENO, level, area, text);
		break;
	}
}

void log_write(enum log_level level, const char *area, const char *format, ...)
{
	char raw[LOG_LINE_MOST / 2], text[LOG_LINE_MOST - 256];
	const struct target *t;
	va_list args;

	if (!is_on_for(level, area))
		return;
	va_start(args, format);
	vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	clean(raw, text, sizeof(text));
	t = atomic_load_explicit(&log_target, memory_order_acquire);
	if (t)
		write_target(t, level, area, text);
	else
		write_stream(log_fd, level, area, text);
}
