/*
 * One request: its words held against the verb's row, and its answer. Every path ends in control_done() or
 * control_fail(), which free it.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/control/control_internal.h"

/* ---- answers ---- */

json_t *control_json_text(struct slice text)
{
	json_t *json = json_stringn(text.p ? text.p : "", text.len);
	char *clean;

	if (json)
		return json;
	clean = xmemdup0(text.p, text.len);
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)clean[i] >= 128)
			clean[i] = '?';
	json = json_stringn(clean, text.len);
	free(clean);
	require(json);
	return json;
}

static json_t *with_times(const struct control_request *request, json_t *answer)
{
	if (request->times)
		json_object_set(answer, "times", request->times);
	return answer;
}

static void send_row(struct control_request *request)
{
	if (!request->row)
		return;
	control_send_take(request->peer, with_times(request, json_pack("{s:o}", "row", request->row)));
	request->row = NULL;
}

void control_row(struct control_request *request)
{
	send_row(request);
	request->row = json_object();
	request->in_row = true;
}

void control_result(struct control_request *request)
{
	send_row(request);
	request->in_row = false;
}

static json_t *target(struct control_request *request)
{
	if (request->in_row)
		return request->row;
	if (!request->result)
		request->result = json_object();
	return request->result;
}

void control_add_slice(struct control_request *request, const char *key, struct slice value)
{
	json_object_set_new(target(request), key, control_json_text(value));
}

void control_add_str(struct control_request *request, const char *key, const char *value)
{
	control_add_slice(request, key, slice_str(value));
}

void control_add_text(struct control_request *request, const char *key, const char *format, ...)
{
	struct buf text = {0};
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	control_add_slice(request, key, buf_view(&text));
	buf_deinit(&text);
}

void control_add_int(struct control_request *request, const char *key, int64_t value)
{
	json_object_set_new(target(request), key, json_integer(value));
}

void control_add_time(struct control_request *request, const char *key, int64_t seconds)
{
	size_t i;
	json_t *name;
	bool is_known = false;

	control_add_int(request, key, seconds);
	json_array_foreach(request->times, i, name) is_known |= strcmp(json_string_value(name), key) == 0;
	if (is_known)
		return;
	if (!request->times)
		request->times = json_array();
	json_array_append_new(request->times, json_string(key));
}

void control_add_bool(struct control_request *request, const char *key, bool value)
{
	json_object_set_new(target(request), key, json_boolean(value));
}

/* The list of that key, made if it is not there. */
static json_t *list_of(struct control_request *request, const char *key)
{
	json_t *list = json_object_get(target(request), key);

	if (!json_is_array(list)) {
		list = json_array();
		json_object_set_new(target(request), key, list);
	}
	return list;
}

void control_add_item(struct control_request *request, const char *key, struct slice value)
{
	json_array_append_new(list_of(request, key), control_json_text(value));
}

void control_add_list(
	struct control_request *request, const char *key, const char *const *values, size_t count)
{
	list_of(request, key);
	for (size_t i = 0; i < count; i++)
		control_add_item(request, key, slice_str(values[i]));
}

void control_progress(struct control_request *request, const char *format, ...)
{
	struct buf text = {0};
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	send_row(request);
	control_send_take(request->peer, json_pack("{s:o}", "progress", control_json_text(buf_view(&text))));
	buf_deinit(&text);
}

static void end(struct control_request *request, json_t *answer)
{
	struct control_peer *peer = request->peer;

	if (answer)
		control_send_take(peer, with_times(request, answer));
	if (peer)
		control_peer_next(peer);
	json_decref(request->row);
	json_decref(request->result);
	json_decref(request->times);
	json_decref(request->root);
	secret_deinit(&request->input);
	if (request->fd >= 0)
		close(request->fd);
	free(request->path);
	free(request);
}

void control_done(struct control_request *request)
{
	json_t *result;

	control_result(request);
	result = target(request);
	request->result = NULL;
	end(request, json_pack("{s:b,s:i,s:o}", "ok", 1, "status", 0, "result", result));
}

static int exit_status(int error)
{
	switch (error) {
	case ERR_NOT_NOW:
	case ERR_TIMEOUT:
	case ERR_FULL:
	case ERR_CANCELLED:
		return 75;
	case ERR_SYNTAX:
		return 64;
	case ERR_CORRUPT:
	case ERR_IO:
		return 70;
	default:
		return 1;
	}
}

void control_fail(struct control_request *request, int error, const char *format, ...)
{
	struct buf text = {0};
	json_t *answer;
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	send_row(request);
	answer = json_pack("{s:b,s:i,s:o}", "ok", 0, "status", exit_status(error), "error",
		control_json_text(buf_view(&text)));
	if (request->result)
		json_object_set(answer, "result", request->result);
	end(request, answer);
	buf_deinit(&text);
}

/* ---- questions ---- */

struct loop *control_request_loop(const struct control_request *request)
{
	return request->loop;
}

size_t control_arg_count(const struct control_request *request)
{
	return request->arg_count;
}

const char *control_arg(const struct control_request *request, size_t i)
{
	return i < request->arg_count ? request->args[i] : "";
}

const char *control_arg_path(struct control_request *request, size_t i)
{
	const char *word = control_arg(request, i);
	struct buf path = {0};

	if (word[0] == '/' || !request->cwd)
		return word;
	buf_printf(&path, "%s/%s", request->cwd, word);
	free(request->path);
	request->path = slice_copy_str(buf_view(&path));
	buf_deinit(&path);
	return request->path;
}

bool control_has_option(const struct control_request *request, const char *name)
{
	for (size_t i = 0; i < request->option_count; i++)
		if (strcmp(request->options[i].name, name) == 0)
			return true;
	return false;
}

const char *control_option(const struct control_request *request, const char *name, size_t i)
{
	for (size_t o = 0; o < request->option_count; o++)
		if (strcmp(request->options[o].name, name) == 0 && i-- == 0)
			return request->options[o].value;
	return NULL;
}

struct slice control_input(const struct control_request *request)
{
	return secret_view(&request->input);
}

int control_take_fd(struct control_request *request)
{
	int fd = request->fd;

	request->fd = -1;
	return fd;
}

bool control_is_gone(const struct control_request *request)
{
	return request->peer == NULL;
}

/* ---- reading a request ---- */

/* How many words of the request are the verb's name; 0 when it is another verb. */
static size_t match(const char *name, const char *const *words, size_t count)
{
	size_t n = 0;

	while (*name) {
		size_t len = strcspn(name, " ");

		if (n == count || strlen(words[n]) != len || memcmp(words[n], name, len) != 0)
			return 0;
		n++;
		name += len + (name[len] == ' ');
	}
	return n;
}

/* The verb with the longest name that the words begin with. */
static const struct control_verb *find_verb(const struct control *control, const char *const *words,
	size_t count, size_t *words_out, void **arg_out)
{
	const struct control_verb *best = NULL;

	*words_out = 0;
	for (const struct control_table *t = control->tables; t; t = t->next)
		for (size_t i = 0; i < t->count; i++) {
			size_t n = match(t->verbs[i].name, words, count);

			if (n <= *words_out)
				continue;
			*words_out = n;
			best = &t->verbs[i];
			*arg_out = t->arg;
		}
	return best;
}

/* Are there verbs with more words behind this one? */
static bool begins_verb(const struct control *control, const char *word)
{
	size_t len = strlen(word);

	for (const struct control_table *t = control->tables; t; t = t->next)
		for (size_t i = 0; i < t->count; i++)
			if (strncmp(t->verbs[i].name, word, len) == 0 && t->verbs[i].name[len] == ' ')
				return true;
	return false;
}

/* The kind of an option: '=' takes a value, '<' a secret line, ' ' stands alone, '\0' there is none. */
static char option_kind(const struct control_verb *verb, struct slice name)
{
	const char *at = verb->options ? verb->options : "";

	while (*(at += strspn(at, " "))) {
		size_t len = strcspn(at, " ");
		char last = at[len - 1];
		size_t name_len = last == '=' || last == '<' ? len - 1 : len;

		if (name_len == name.len && memcmp(at, name.p, name_len) == 0)
			return name_len == len ? ' ' : last;
		at += len;
	}
	return '\0';
}

static bool wants_input(const struct control_request *request, const struct control_verb *verb)
{
	if (verb->flags & (CONTROL_READS_ALL | CONTROL_ASKS))
		return true;
	for (size_t i = 0; i < request->option_count; i++)
		if (option_kind(verb, slice_str(request->options[i].name)) == '<')
			return true;
	return false;
}

/* One word that begins with "--": the option, with its value from the word or from the next. False after a
 * fault. */
static bool read_option(struct control_request *request, const struct control_verb *verb,
	const char *const *words, size_t count, size_t *at)
{
	const char *name = words[*at] + 2, *equals = strchr(name, '=');
	struct slice key = slice_of(name, equals ? (size_t)(equals - name) : strlen(name));
	char kind = option_kind(verb, key);
	const char *value = NULL;

	if (kind == '\0' || (kind != '=' && equals))
		return false;
	if (kind == '=') {
		value = equals ? equals + 1 : *at + 1 < count ? words[++*at] : NULL;
		if (!value)
			return false;
	}
	/* The name as the table has it lives as long as the request: its JSON holds the word. */
	if (equals)
		*(char *)equals = '\0';
	request->options[request->option_count++] = (struct control_option){name, value};
	return true;
}

static bool read_words(struct control_request *request, const struct control_verb *verb,
	const char *const *words, size_t count)
{
	bool options_end = false;

	for (size_t i = 0; i < count; i++) {
		if (!options_end && strcmp(words[i], "--") == 0) {
			options_end = true;
		} else if (!options_end && strncmp(words[i], "--", 2) == 0) {
			if (!read_option(request, verb, words, count, &i))
				return false;
		} else {
			request->args[request->arg_count++] = words[i];
		}
	}
	return request->arg_count >= verb->args_least && request->arg_count <= verb->args_most;
}

/* The words of "argv"; false when it is none that we take. */
static bool get_words(json_t *root, const char **words, size_t *count_out)
{
	json_t *argv = json_object_get(root, "argv");
	size_t count = json_array_size(argv);

	if (count == 0 || count > CONTROL_WORDS_MOST)
		return false;
	for (size_t i = 0; i < count; i++) {
		json_t *word = json_array_get(argv, i);

		if (!json_is_string(word) || json_string_length(word) > CONTROL_WORD_MOST)
			return false;
		words[i] = json_string_value(word);
	}
	*count_out = count;
	return true;
}

static void run(struct control_request *request, const struct control *control)
{
	const char *words[CONTROL_WORDS_MOST];
	json_t *input = json_object_get(request->root, "input");
	const struct control_verb *verb;
	size_t count, used;
	void *arg = NULL;

	if (!get_words(request->root, words, &count)) {
		control_fail(request, ERR_SYNTAX, "a request is one JSON object with \"argv\"");
		return;
	}
	verb = find_verb(control, words, count, &used, &arg);
	if (!verb) {
		control_fail(request, ERR_SYNTAX, "%s knows no \"%s%s%s\"; ask for help%s%s",
			control->program, words[0], count > 1 ? " " : "", count > 1 ? words[1] : "",
			begins_verb(control, words[0]) ? " " : "",
			begins_verb(control, words[0]) ? words[0] : "");
		return;
	}
	request->verb = verb;
	if (!read_words(request, verb, words + used, count - used)) {
		control_fail(request, ERR_SYNTAX, "usage: %s%s%s", verb->name, verb->usage[0] ? " " : "",
			verb->usage);
		return;
	}
	if (verb->flags & (CONTROL_TAKES_IN | CONTROL_TAKES_OUT) && request->fd < 0) {
		const char *file = control_arg(request, verb->args_least);

		end(request, json_pack("{s:s,s:s}", "ask", verb->flags & CONTROL_TAKES_IN ? "<" : ">", "file",
				     strcmp(file, "-") == 0 ? "" : file));
		return;
	}
	request->cwd = json_string_value(json_object_get(request->root, "cwd"));
	if (json_is_string(input)) {
		secret_set(&request->input, slice_of(json_string_value(input), json_string_length(input)));
		secret_wipe((char *)json_string_value(input), json_string_length(input));
	} else if (wants_input(request, verb)) {
		end(request, json_pack("{s:s}", "ask", verb->flags & CONTROL_READS_ALL ? "*" : "Password"));
		return;
	}
	log_info("control", "runs verb=\"%s\" argument=\"%s\"", verb->name, control_arg(request, 0));
	verb->fn(arg, request);
}

void control_run_line(struct control_peer *peer, struct slice line)
{
	struct control_request *request = xcalloc(1, sizeof(*request));

	request->loop = peer->control->loop;
	request->peer = peer;
	request->fd = conn_passed_fd(peer->conn);
	peer->running = request;
	request->root = json_loadb(line.p, line.len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(request->root)) {
		control_fail(request, ERR_SYNTAX, "a request is one JSON object with \"argv\"");
		return;
	}
	run(request, peer->control);
}
