/* One table for all loops behind a short lock: account's slot and number to the lock that a session holds. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/session/pop3_core.h"
#include "common/base/mem.h"
#include "common/base/table.h"

struct pop3_lock {
	struct pop3_locks *locks; /* NULL: a snapshot, nothing is held */
	char key[32];
};

struct pop3_locks {
	pthread_mutex_t mutex;
	struct table *held;
};

struct pop3_locks *pop3_locks_new(void)
{
	struct pop3_locks *locks = xcalloc(1, sizeof(*locks));

	pthread_mutex_init(&locks->mutex, NULL);
	locks->held = table_new();
	return locks;
}

void pop3_locks_free(struct pop3_locks **locks)
{
	if (!*locks)
		return;
	table_free(&(*locks)->held);
	pthread_mutex_destroy(&(*locks)->mutex);
	free(*locks);
	*locks = NULL;
}

int pop3_locks_take(struct pop3_locks *locks, const struct store_account *account, bool is_exclusive,
	struct pop3_lock **lock_out)
{
	struct pop3_lock *lock = xcalloc(1, sizeof(*lock));
	bool is_held;

	if (!is_exclusive) {
		*lock_out = lock;
		return 0;
	}
	snprintf(lock->key, sizeof(lock->key), "%u.%u", account->slot, account->id);
	pthread_mutex_lock(&locks->mutex);
	is_held = table_get(locks->held, slice_str(lock->key)) != NULL;
	if (!is_held)
		(void)table_put(locks->held, slice_str(lock->key), lock);
	pthread_mutex_unlock(&locks->mutex);
	if (is_held) {
		free(lock);
		return ERR_DENIED;
	}
	lock->locks = locks;
	*lock_out = lock;
	return 0;
}

void pop3_lock_release(struct pop3_lock **lock)
{
	struct pop3_lock *l = *lock;

	*lock = NULL;
	if (l && l->locks) {
		pthread_mutex_lock(&l->locks->mutex);
		(void)table_remove(l->locks->held, slice_str(l->key));
		pthread_mutex_unlock(&l->locks->mutex);
	}
	free(l);
}
