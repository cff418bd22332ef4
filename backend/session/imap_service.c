/* All sessions of the program: their limits, their list, a loop at a time, and their end. */
#include "backend/session/imap_core.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "backend/session/imap_metadata.h"
#include "common/base/mem.h"

const struct imap_limits imap_limits_default = {
	.append_size = 64u << 20,
	.idle_ms = 35 * 60 * 1000,
	.transfer_ms = 5 * 60 * 1000,
	.bad_commands = 20,
	.progress_ms = 10000,
};

void imap_service_set_limits(struct imap_service *service, const struct imap_limits *limits)
{
	atomic_store(&service->append_size, limits->append_size);
	atomic_store(&service->idle_ms, limits->idle_ms);
	atomic_store(&service->transfer_ms, limits->transfer_ms);
	atomic_store(&service->bad_commands, limits->bad_commands);
	atomic_store(&service->is_strict_utf8, limits->is_strict_utf8);
	atomic_store(&service->progress_ms, limits->progress_ms);
	atomic_store(&service->acl_anyone, limits->acl_anyone);
}

void imap_service_set_notes(struct imap_service *service, const char *comment, const char *admin)
{
	struct imap_notes *old;

	pthread_mutex_lock(&service->lock);
	old = service->notes;
	service->notes = imap_notes_new(comment, admin);
	pthread_mutex_unlock(&service->lock);
	imap_notes_unref(&old);
}

struct imap_service *imap_service_new(
	struct store_work *work, unsigned loops, const struct imap_limits *limits)
{
	struct imap_service *service = xcalloc(1, sizeof(*service));

	service->work = work;
	service->loops = loops;
	service->sessions = xcalloc(loops, sizeof(*service->sessions));
	for (unsigned i = 0; i < loops; i++)
		list_init(&service->sessions[i]);
	pthread_mutex_init(&service->lock, NULL);
	imap_service_set_limits(service, limits);
	return service;
}

void imap_service_free(struct imap_service **service)
{
	if (!*service)
		return;
	imap_notes_unref(&(*service)->notes);
	pthread_mutex_destroy(&(*service)->lock);
	free((*service)->sessions);
	free(*service);
	*service = NULL;
}

/* Where a command runs, its answer goes out first. */
static void end_session(struct imap_session *s, const char *text)
{
	if (s->state == IMAP_BUSY || s->state == IMAP_SENDING)
		s->bye_text = text;
	else
		imap_close(s, text);
}

void imap_service_each(struct imap_service *service, struct loop *loop,
	bool (*fn)(void *arg, const struct mailbox_session_info *info), void *arg, const char *bye_text)
{
	list_for_each_safe (at, &service->sessions[loop_index(loop)]) {
		struct imap_session *s = container_of(at, struct imap_session, link);
		struct mailbox_session_info info = {.number = s->number,
			.session = s->id,
			.user = s->user,
			.slot = s->slot,
			.account = s->account,
			.client = s->client,
			.state = imap_state_name(s),
			.since_ms = s->since_ms};

		if (fn(arg, &info))
			end_session(s, bye_text);
	}
}

static bool take_all(void *arg, const struct mailbox_session_info *info)
{
	(void)arg;
	(void)info;
	return true;
}

void imap_service_bye(struct imap_service *service, struct loop *loop, const char *text)
{
	imap_service_each(service, loop, take_all, NULL, text);
}

unsigned imap_service_count(const struct imap_service *service)
{
	return atomic_load(&((struct imap_service *)(uintptr_t)service)->count);
}
