#include "common/net/resolve.h"
#include "common/net/loop_private.h"
int resolve_init(const struct resolve_options *o, struct buf *why) { (void)o; (void)why; return 0; }
void resolve_deinit(void) {}
int resolve_addrs(struct loop *loop, const char *host, uint16_t port, uint64_t timeout_ms, resolve_fn *fn,
	void *arg, struct resolve_request **request_out)
{ (void)loop; (void)host; (void)port; (void)timeout_ms; (void)fn; (void)arg; (void)request_out; return ERR_NOT_NOW; }
void resolve_cancel(struct resolve_request **r) { (void)r; }
void resolve_loop_free(struct loop *loop) { (void)loop; }
