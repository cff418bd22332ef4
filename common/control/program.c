/* Small things, written once so that both programs do them alike. */
#include "common/control/program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void program_set_log(const struct conf *conf, const char *area)
{
	const char *file = conf_get_string(conf, "", NULL, "log-file");
	size_t count;
	const char *const *levels = conf_get_list(conf, "", NULL, "log-levels", &count);
	char name[32];

	log_set_level((enum log_level)conf_get_enum(conf, "", NULL, "log-level"));
	if (log_set_levels(levels, count) < 0)
		log_error(area, "log-levels are AREA=LEVEL each, at most %d", LOG_AREAS_MOST);
	snprintf(name, sizeof(name), "mailtier-%s", area);
	if (log_to((enum log_target)conf_get_enum(conf, "", NULL, "log-to"),
		    conf_get_string(conf, "", NULL, "log-socket"), name) < 0)
		log_error(area, "the log cannot go where log-to says; it stays where it was");
	if (file[0] && log_open(file) < 0)
		log_error(area, "the log file cannot be opened file=%s", file);
}

void program_check(struct conf *conf)
{
	const char *file = conf_get_string(conf, "", NULL, "log-file"), *slash = strrchr(file, '/');
	const char *socket = conf_get_string(conf, "", NULL, "log-socket");
	size_t count;
	const char *const *levels = conf_get_list(conf, "", NULL, "log-levels", &count);
	char folder[PATH_MAX];

	for (size_t i = 0; i < count; i++) {
		if (!log_is_area_level(levels[i]))
			conf_error(conf, "", NULL, "log-levels",
				"\"%s\" is not AREA=LEVEL, such as smtp=debug (levels: error, warn, info, "
				"debug)",
				levels[i]);
	}
	if (count > LOG_AREAS_MOST)
		conf_error(conf, "", NULL, "log-levels", "has more than %d areas", LOG_AREAS_MOST);
	if (socket[0] && (socket[0] != '/' || strlen(socket) >= sizeof(((struct sockaddr_un *)0)->sun_path)))
		conf_error(conf, "", NULL, "log-socket", "\"%s\" is no path of a socket (it begins with /)",
			socket);
	if (!slash)
		return;
	snprintf(folder, sizeof(folder), "%.*s", slash == file ? 1 : (int)(slash - file), file);
	if (access(folder, F_OK) != 0)
		conf_error(conf, "", NULL, "log-file", "%s: %s", folder, strerror(errno));
}

void program_log_lines(enum log_level level, const char *area, const char *prefix, const struct buf *lines)
{
	struct slice rest = buf_view(lines);

	while (rest.len) {
		ptrdiff_t end = slice_find(rest, '\n');
		struct slice line = slice_sub(rest, 0, end < 0 ? rest.len : (size_t)end);

		log_write(level, area, "%s: %.*s", prefix, SLICE_ARG(line));
		rest = slice_from(rest, line.len + 1);
	}
}

void program_raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

unsigned program_loops(const struct conf *conf)
{
	unsigned loops = (unsigned)conf_get_int(conf, "", NULL, "loops");
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (loops)
		return loops;
	return cores > 0 ? (unsigned)cores : 1;
}

void program_host_name(const struct conf *conf, char *room, size_t size)
{
	const char *host = conf_get_string(conf, "", NULL, "host-name");

	if (host[0] && strlen(host) < size) {
		memcpy(room, host, strlen(host) + 1);
		return;
	}
	/* A name that is cut has no end, and is none. */
	if (gethostname(room, size) < 0 || !memchr(room, '\0', size))
		room[0] = '\0';
}
