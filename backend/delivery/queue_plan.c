#include "backend/delivery/queue_plan.h"

#include "common/proto/smtp_parse.h"

uint64_t queue_plan_wait(const struct queue_plan *plan, unsigned tries)
{
	uint64_t wait = plan->retry_first;

	for (unsigned i = 1; i < tries && wait < plan->retry_most; i++)
		wait *= 2;
	return wait < plan->retry_most ? wait : plan->retry_most;
}

bool queue_plan_is_over(const struct queue_plan *plan, uint64_t arrived, unsigned tries, uint64_t wall)
{
	return tries >= plan->tries || wall >= arrived + plan->lifetime;
}

uint64_t queue_plan_next(const struct queue_plan *plan, uint64_t arrived, unsigned tries, uint64_t wall)
{
	uint64_t next = wall + queue_plan_wait(plan, tries), end = arrived + plan->lifetime;

	return next > end && end > wall ? end : next;
}

bool queue_plan_tells(enum queue_event event, bool has_sender, unsigned notify)
{
	if (!has_sender || (notify & SMTP_NOTIFY_NEVER))
		return false;
	switch (event) {
	case QUEUE_PASSED:
		return false;
	case QUEUE_STORED:
	case QUEUE_RELAYED:
		return notify & SMTP_NOTIFY_SUCCESS;
	case QUEUE_FAILED:
		return !notify || (notify & SMTP_NOTIFY_FAILURE);
	case QUEUE_DELAYED:
		return !notify || (notify & SMTP_NOTIFY_DELAY);
	}
	return false;
}

bool queue_plan_is_late(const struct queue_plan *plan, uint64_t arrived, bool is_warned, uint64_t wall)
{
	return plan->warning && !is_warned && wall >= arrived + plan->warning;
}
