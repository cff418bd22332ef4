/*
 * The verbs that every program has.
 */
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/version.h"
#include "common/control/control_internal.h"

/* Does its name begin with the words that were asked for? */
static bool begins(const char *name, const struct control_request *request)
{
	for (size_t i = 0; i < control_arg_count(request); i++) {
		const char *word = control_arg(request, i);
		size_t len = strlen(word);

		if (strncmp(name, word, len) != 0 || (name[len] && name[len] != ' '))
			return false;
		name += len + (name[len] == ' ');
	}
	return true;
}

static void run_help(void *arg, struct control_request *request)
{
	const struct control *control = arg;
	size_t count = 0;

	for (const struct control_table *t = control->tables; t; t = t->next)
		for (size_t i = 0; i < t->count; i++) {
			if (!begins(t->verbs[i].name, request))
				continue;
			count++;
			control_row(request);
			control_add_text(request, "verb", "%s%s%s", t->verbs[i].name,
				t->verbs[i].usage[0] ? " " : "", t->verbs[i].usage);
			control_add_str(request, "does", t->verbs[i].doc);
		}
	if (!count)
		control_fail(request, ERR_SYNTAX, "%s knows no verb that begins like this; ask for help",
			control->program);
	else
		control_done(request);
}

static void add_metric(void *arg, const char *name, const char *labels, int64_t value)
{
	struct control_request *request = arg;

	control_row(request);
	control_add_str(request, "name", name);
	control_add_str(request, "labels", labels);
	control_add_int(request, "value", value);
}

static void run_metrics(void *arg, struct control_request *request)
{
	(void)arg;
	if (control_has_option(request, "text")) {
		struct buf text = {0};

		metrics_render(&text);
		control_add_slice(request, "text", buf_view(&text));
		buf_deinit(&text);
	} else {
		metrics_visit(add_metric, request);
	}
	control_done(request);
}

static void run_log_level(void *arg, struct control_request *request)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	int level = LOG_ERROR;

	(void)arg;
	if (control_arg_count(request)) {
		level = log_level_parse(control_arg(request, 0));
		if (level < 0) {
			control_fail(request, ERR_SYNTAX, "a level is error, warn, info or debug");
			return;
		}
		log_set_level((enum log_level)level);
	}
	for (level = LOG_DEBUG; level > LOG_ERROR && !log_is_on((enum log_level)level);)
		level--;
	control_add_str(request, "level", names[level]);
	control_done(request);
}

static void run_status(void *arg, struct control_request *request)
{
	const struct control *control = arg;

	control_add_str(request, "program", control->program);
	control_add_str(request, "version", MAILTIER_VERSION);
	control_add_int(request, "pid", getpid());
	control_add_int(request, "seconds", (int64_t)((clock_mono_ms() - control->started_ms) / 1000));
	control_done(request);
}

const struct control_verb control_own_verbs[] = {
	{"help", "[WORD]...", "the verbs of this program, or those that begin with these words", run_help, 0,
		3, NULL, 0},
	{"status", "", "program, version, process, seconds since its start", run_status, 0, 0, NULL, 0},
	{"metrics", "[--text]", "all counters and gauges; --text: as /metrics gives them", run_metrics, 0, 0,
		"text", 0},
	{"log level", "[error|warn|info|debug]",
		"shows or sets what is logged, until the next start or reload", run_log_level, 0, 1, NULL, 0},
};
const size_t control_own_verb_count = ARRAY_LEN(control_own_verbs);
