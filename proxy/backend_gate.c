/* The window grows evenly with the time since the return. Counters are taken first and given back if they were too many. */
#include "proxy/backend_gate.h"

void backend_gate_return(struct backend_gate *gate, uint64_t now_ms)
{
	atomic_store_explicit(&gate->returned_ms, now_ms ? now_ms : 1, memory_order_relaxed);
}

unsigned backend_gate_window(struct backend_gate *gate, uint64_t return_ms, uint64_t now_ms)
{
	uint64_t since = atomic_load_explicit(&gate->returned_ms, memory_order_relaxed);
	uint64_t passed = now_ms > since ? now_ms - since : 0;

	if (since == 0)
		return 0;
	if (passed >= return_ms) {
		/* Another return may have begun meanwhile: then it stays. */
		(void)atomic_compare_exchange_strong(&gate->returned_ms, &since, 0);
		return 0;
	}
	return BACKEND_GATE_FIRST + (unsigned)((BACKEND_GATE_LAST - BACKEND_GATE_FIRST) * passed / return_ms);
}

bool backend_gate_log_in(struct backend_gate *gate, uint64_t return_ms, uint64_t now_ms)
{
	unsigned window = backend_gate_window(gate, return_ms, now_ms);
	int64_t before = atomic_fetch_add_explicit(&gate->logins, 1, memory_order_relaxed);

	if (window == 0 || before < window)
		return true;
	backend_gate_logged_in(gate);
	return false;
}

void backend_gate_logged_in(struct backend_gate *gate)
{
	atomic_fetch_sub_explicit(&gate->logins, 1, memory_order_relaxed);
}

bool backend_gate_connect(struct backend_gate *gate, unsigned most)
{
	int64_t before = atomic_fetch_add_explicit(&gate->connections, 1, memory_order_relaxed);

	if (most == 0 || before < most)
		return true;
	backend_gate_disconnect(gate);
	return false;
}

void backend_gate_disconnect(struct backend_gate *gate)
{
	atomic_fetch_sub_explicit(&gate->connections, 1, memory_order_relaxed);
}
